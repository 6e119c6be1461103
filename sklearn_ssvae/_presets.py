"""The settings of the paper, as parameters of the estimators."""

_COMMON = {
    "optimizer": "rmsprop",
    "average": False,
    "decay_after": None,
    "kl_warmup": None,
    "labeled_fraction": 0.5,
    "prior": "normal",
    "decoder_label": "predicted",
    "alpha": 1.0,
    "beta": 1.0,
    "consistency": 0.0,
    "max_epochs": 10,
}

_PAPER = {
    "dense": {
        "network": "dense",
        "hidden_layer_sizes": (1024, 1024),
        "latent_dim": 2,
        "likelihood": "bernoulli",
        "learning_rate": 5e-4,
    },
    "conv": {
        "network": "conv",
        "hidden_layer_sizes": (512,),
        "latent_dim": 2,
        "likelihood": "bernoulli",
        "learning_rate": 5e-4,
    },
    "recurrent": {
        "network": "recurrent",
        "hidden_layer_sizes": (40, 40, 30),
        "latent_dim": 2,
        "likelihood": "heteroscedastic_gaussian",
        "learning_rate": 1e-3,
    },
    "small_norb": {
        "network": "small_norb",
        "hidden_layer_sizes": (256,),
        "latent_dim": 32,
        "likelihood": "bernoulli",
        "learning_rate": 1e-3,
        "decoder_label": None,
        "beta": 0.25,
    },
}


def paper_params(name):
    """Return the settings of one of the paper's four models, for either estimator.

    Sizes are those of Tables 13 to 16 of Berkhahn et al. (2019), arXiv:1908.03015, the
    optimizer is RMSprop with smoothing 0.9, every other row of a batch is labeled, and the
    prior of z is N(0, I), without `consistency`. The paper names neither the size of a
    batch nor, but for Small-NORB, alpha and beta; the latter are 1 here. One part differs:
    the recurrent decoder gives the logarithm of a variance, in Table 15 a softplus scale.

    Parameters
    ----------
    name : {"dense", "conv", "recurrent", "small_norb"}
        The model: "dense" and "conv" for images of 28 x 28 such as MNIST, "recurrent" for
        series of UCI-HAR, "small_norb" for pairs of images of 96 x 96.

    Returns
    -------
    params : dict
        Parameters of `SSVAEClassifier` and `SSVAEAnomalyDetector`.

    Raises
    ------
    ValueError
        If there is no such model.

    Examples
    --------
    >>> from sklearn_ssvae import SSVAEClassifier, paper_params
    >>> clf = SSVAEClassifier(**paper_params("dense"), random_state=0)
    >>> clf.hidden_layer_sizes
    (1024, 1024)
    """
    if name not in _PAPER:
        raise ValueError(f"name must be one of {sorted(_PAPER)}. Got {name!r}.")
    return {**_COMMON, **_PAPER[name]}
