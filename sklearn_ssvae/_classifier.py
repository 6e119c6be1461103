"""The semi-supervised classifier."""

from numbers import Real

import numpy as np
import torch
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from ._base import BaseSSVAE, all_or_nothing
from ._data import (
    MAX_NEIGHBOR_LABELS,
    at_most,
    blocks,
    class_shares,
    labels_follow_neighbors,
    spread_labels,
    surroundings_of_labels,
)
from ._defaults import MAX_SHRINKAGE, accuracy_for, shrinkage_for, unless_auto
from ._labels import (
    Head,
    as_list,
    check_labels,
    check_same_kind,
    encode_columns,
    encode_labels,
    is_unlabeled,
    labeled_values,
    stack_columns,
)
from ._priors import PRIORS


def shrink(log_pi, shrinkage, shares):
    """Mix the shares of the classes into pi, the most probable class of a row as it is.

    Parameters
    ----------
    log_pi : ndarray of shape (n, n_classes)
        Logarithm of pi.
    shrinkage : float
        Weight of the shares, in (0, 1); less in a row where another class would else be
        the most probable.
    shares : ndarray of shape (n_classes,)
        Share of each class among all rows.

    Returns
    -------
    log_proba : ndarray of shape (n, n_classes)
        Logarithm of the mixture.
    """
    pi = np.exp(log_pi)
    top = pi.argmax(axis=1)[:, None]
    lead = np.take_along_axis(pi, top, axis=1) - pi
    gain = np.maximum(shares - shares[top], 0)
    # With the weight lead / (lead + gain) the two classes would be as probable.
    bound = np.divide(lead, lead + gain, out=np.ones_like(lead), where=gain > 0)
    weight = np.minimum(shrinkage, 0.999 * bound.min(axis=1, keepdims=True))
    with np.errstate(divide="ignore"):
        return np.logaddexp(log_pi + np.log1p(-weight), np.log(weight) + np.log(shares))


class SSVAEClassifier(ClassifierMixin, BaseSSVAE):
    r"""Classifier that learns from labeled and unlabeled rows with one autoencoder.

    A variational autoencoder with a softmax head pi on its topmost encoder layer. It is
    trained on the ELBO of all rows plus the cross-entropy of the labeled ones [1]_, plus
    what makes pi consistent near a row and over all rows:

    .. math::

        L = -\frac{1}{n_{features}} \big( E[\log p(x | z)]
            - \beta KL(q(z, y|x) || p(z, y)) - \gamma (I + 3 B) \big)
            - \frac{\alpha}{\#labeled} \sum_{i\ labeled} \log \pi_{i, y_i}

    The user guide derives the terms; ``paper_params`` has the paper's model, whose decoder
    reads pi beside z and whose loss has neither I nor B. Good where rows are many and
    labels few. The same model embeds (`transform`), reconstructs, generates by class
    (`sample`) and scores rows (`score_samples`).

    Read more in the user guide.

    Parameters
    ----------
    network : {"dense", "conv", "recurrent", "small_norb"} or pair, default="dense"
        Architecture of encoder and decoder. "dense" is fully connected with ReLU; "conv"
        takes images, rows of shape (height, width) or (height, width, channels);
        "small_norb" is a deeper one for larger images; "recurrent" takes series, rows of
        shape (time, features), and has a z at each time step. A pair of classes
        ``(Encoder, Decoder)`` brings a network of your own, see the user guide.
    hidden_layer_sizes : "auto", int or array-like of int, default="auto"
        Widths of the encoder's hidden layers, bottom to top; the decoder has them in
        reverse. Those of "conv" follow on its convolutions; of "recurrent" the middle one
        is an LSTM. "auto" is (512, 512), and the paper's for the other named networks:
        (512,) of "conv", (40, 40, 30) of "recurrent", (256,) of "small_norb".
    latent_dim : int, default=32
        Size of the latent z.
    input_shape : tuple of int, default=None
        Shape of one row as the network sees it, such as ``(28, 28)`` for images that come
        flat. By default the shape in which rows come. The dense network flattens it again.
    likelihood : str, default="auto"
        Distribution of a feature given the decoder's output: "auto", "bernoulli",
        "gaussian" or "heteroscedastic_gaussian". "bernoulli" is for values in
        [0, 1] and leaves them as they are. "gaussian" learns one variance per feature,
        "heteroscedastic_gaussian" one per feature and row; both standardise the columns
        inside the model, or divide all by one number where they seem to have a unit in
        common (the root mean square of their standard deviations is at most twice the
        median and, of twelve columns or fewer, none is over ten times another). "auto"
        takes "bernoulli" if all values are in [0, 1] and at least a tenth of them exactly 0
        or 1 (images, indicators), and "gaussian" otherwise.
    prior : {"auto", "normal", "class_conditional"}, default="auto"
        Prior of z. "normal" is N(0, I), the paper's. "class_conditional" has a normal with
        learned mean and diagonal variance for each class, p(z|y) = N(m_y, S_y): labels
        shape the latent space, and unlabeled rows are drawn to the class that their z
        is near to. "auto" is "normal" for fewer than 100 rows, of which the clusters are
        seldom the classes, for the network "recurrent", whose z at each time step
        outweigh the labels of whole rows, and where the labels show no clusters: there
        are 25 or more beside those of the most frequent class, and in the first five
        principal components the labeled row nearest to another has its class no more often
        than by chance (less than two standard errors more). Else "class_conditional". A
        further fit keeps the prior of the first.
    decoder_label : {"auto", "predicted", "observed"} or None, default="auto"
        What the decoder reads beside z: "predicted" is pi(x) of every row, "observed" in
        training the label itself where a row has one, and None no class. "auto" is
        "predicted" with the normal prior and None with the class-conditional one.
    alpha : float or "auto", default="auto"
        Weight of the cross-entropy, in (0, inf]. "auto" is 0.3, or ``nats / n_features``
        where that is more: 12 nats of the ELBO up to five labels a class, ``0.48 n ** 2``
        with n of them, 200 from 21 on. ``inf`` leaves nothing else: encoder and classifier
        alone, trained on the labeled rows alone (the paper's ES); such a model has no
        `transform`, `reconstruct`, `sample` and `score_samples`.
    beta : float or "auto", default="auto"
        Weight of the KL divergence in the ELBO, at least 0; 1 is the true ELBO, less
        reconstructs better, more keeps z closer to its prior. "auto" is 2 with the
        class-conditional prior and 1 with the normal one.
    consistency : float or "auto", default="auto"
        Weight gamma, in nats of the ELBO, at least 0. I is the change of pi between a row
        and neighbors that should have its class: its own reconstruction, the worst row
        near by (virtual adversarial training [2]_), and the row as `augmentation` changes
        it. B is the divergence of the mean pi of a batch from the shares that the classes
        may have, see `class_prior`. 0 trains twice as fast. Its weight per feature never
        exceeds `alpha`. "auto" is 8, 300 with the network "recurrent", and 0 where the
        labels show no clusters, see `prior`.
    augmentation : "auto", callable or None, default="auto"
        What changes a row and leaves its class. "auto" shifts images, rows of shape
        (height, width) or (height, width, channels), by up to a fourteenth of height and
        width, and series of the network "recurrent" by as much of their time; it leaves
        alone what has fewer than 14 pixels in either direction, or time steps. Images that
        come flat need `input_shape`. None changes nothing, as suits rows whose axes are no
        height and width. A function ``augmentation(x, generator)`` gets a Tensor of shape
        (n, ...) in the rows' own units, with a CPU ``torch.Generator`` for its draws, and
        returns changed rows of the same shape.
    class_prior : array-like of shape (n_classes,) or list of them, default=None
        Share of each class among all rows, in the order of `classes_`; positive, with sum
        1. By default any are possible from those among the labels to those that spreading
        these over a graph of neighbors gives the other rows, as far as labels so tell one
        another; see the user guide. The labels alone count where most rows have one, with
        one label a class, with the network "recurrent", in `partial_fit` and with
        ``consistency=0``. Pass it where you know it, above all where few labels were picked.
    shrinkage : float or "auto", default="auto"
        How far `predict_proba` goes from pi to the shares of the classes, in [0, 1): by what
        few labels cannot vouch for, and in no row so far that another class becomes the most
        probable. The shares are those of `class_prior`. "auto" brings the mean confidence of
        pi, where all classes are as frequent, down to how often it gives the class of a label
        to the unlabeled row next to the labeled one, against how often it gives unlabeled
        neighbors one class, and which counts less where spreading the other labels over the
        rows does not tell the label, and for few labels; with one label a class, down to how
        often it gives the class that spreading the labels does; see the user guide. Where more
        than half of the rows have a label, in series of the network "recurrent" and in
        `partial_fit`, the labeled row itself stands for the one next to it, in `partial_fit`
        the last 1,000 over all chunks. "auto" is 0 with ``consistency=0``, as the paper's
        model has it. `predict` does not depend on it.
    labeled_fraction : float or "auto", default="auto"
        Smallest share of labeled rows in a batch, in (0, 1). Rarer labels are repeated to
        make this share. "auto" is 0.1 up to 100 labeled rows, from there
        ``sqrt(n_labeled) / 100``, and 0.3 from 900 on. The paper's is 0.5.
    max_epochs : int or "auto", default="auto"
        Epochs of a fit. One epoch passes every unlabeled row once. "auto" makes 7,500
        batches of them in 10 to 50 epochs, with the network "recurrent" 1,000 in 10 to 300,
        or to 50 with ``alpha=inf``.
    batch_size : int or "auto", default="auto"
        Rows of a batch, labeled and unlabeled together. "auto" is a twentieth of the rows,
        but at least 32 and at most 128.
    learning_rate : float or "auto", default="auto"
        Step size of the optimizer. "auto" is 3e-3 for the network "recurrent" and 1e-3 for
        all others.
    decay_after : "auto", int or None, default="auto"
        Number T of batches after which the step size falls: in batch n it is
        ``learning_rate * (T / n) ** 1.5``, so that training for longer changes ever less:
        all batches after T add up to less than 2 T full steps. "auto" is 1,000 batches, but
        2 epochs at least and 13 at most, and ``512 / width`` times as many if the widest
        hidden layer has less than 512 units; with the network "recurrent" it is 1,000
        batches in 10 to 300 epochs. None keeps the step size, as "auto" does in
        `partial_fit`, with ``alpha=inf`` and with an `LRScheduler` among the `callbacks`.
    kl_warmup : "auto", int or None, default="auto"
        Number of batches over which `beta` rises from 0 in even steps, so that labels and
        reconstruction place the rows before their nearness to a class counts. None starts
        with all of it. "auto" is 500 batches, but an epoch at least and 6.5 at most (5 and
        150 with the network "recurrent"), with the class-conditional prior; None with the
        normal one, and where trained weights are the start. The ``loss`` of `history_` has
        `beta` as it was.
    optimizer : {"adam", "adamw", "rmsprop"} or Optimizer class, default="adam"
        "rmsprop" is the paper's: smoothing 0.9, no momentum. A subclass of
        ``torch.optim.Optimizer`` works as well; its options go into `net_params` as
        ``{"optimizer__weight_decay": 1e-4}``.
    average : bool, default=True
        Whether a fit ends with an average of the weights, over about its last 1,000 batches
        or, of a short one, their last tenth, rather than with those of the last batch:
        steadier from one epoch to the next. `warm_start` and `partial_fit` go on from the
        weights themselves, as one longer fit would. Has no effect with `early_stopping`.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the labeled rows (stratified) and of
        the unlabeled ones, stop when their loss, without I and B, no longer falls by 1e-4,
        and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of rows to hold out, in (0, 1). Only used if `early_stopping` is True.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping. Only used if `early_stopping` is True.
    warm_start : bool, default=False
        Whether a further `fit` goes on from the fitted weights and optimizer state, as
        one longer fit would; scaling and likelihood stay those of the first. Classes that
        arrive later get a fresh pi head.
    unlabeled : object, default=-1
        The marker of an unlabeled row in y: any value; None, NaN and pandas' NA stand for
        one another.
    device : str, default="auto"
        Where to train: "auto" takes cuda, mps or cpu, in this order; or torch's name of a
        device. A saved model opens on whatever there is.
    precision : {"float32", "bfloat16"}, default="float32"
        Numbers that the layers of encoder and decoder compute with in training. "bfloat16"
        is about twice as fast for convolutions and 1.4 times for layers of 512 units and
        more on a CPU with units for it (AMX), slower for small networks and on other CPUs,
        on those with AVX2 alone with a warning. A large GPU gains nothing on networks of
        this size. Weights, heads, loss, an LSTM on a CPU, and all that a fitted model
        computes keep their full precision.
    callbacks : list of skorch callbacks, default=None
        Cloned before use. They see the net and its history of losses.
    net_params : dict, default=None
        Further parameters of the `skorch.NeuralNet`.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and noise. The global states of numpy and torch are
        neither read nor changed. A network with dropout draws other masks on a GPU.
    verbose : int, default=0
        1 shows a progress bar with the terms of the loss.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of them
        The classes, sorted; the unlabeled marker is none of them. A list with one item
        for each factor if y has several columns, as are the two below.
    class_count_ : ndarray of shape (n_classes,), or list of them
        Labeled rows of each class.
    class_prior_ : ndarray of shape (n_classes,), or list of them
        Share of each class: `class_prior`, or the middle of what is possible by default.
    history_ : dict of ndarray of shape (n_epochs,)
        Mean of each term of the loss by epoch: ``loss``, ``log_prob``, ``kl_divergence``,
        ``cross_entropy``, ``inconsistency`` (I) and ``imbalance`` (B) as far as the model
        has them, and ``valid_...`` of held-out rows. Nats a row, `log_prob` that of the
        standardised features.
    alpha_, consistency_ : float
        The weights of the cross-entropy and of the consistency in use.
    shrinkage_ : float or ndarray of shape (n_outputs,)
        How far `predict_proba` goes from pi to the shares of the classes, one for each
        factor if y has several columns.
    likelihood_ : str
        The likelihood in use, one of the names of `likelihood`.
    prior_ : str or None
        The prior in use, "normal" or "class_conditional"; None with ``alpha=inf``.
    n_iter_ : int
        Epochs trained, over all fits that went on from one another.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had names that are all strings.
    net_ : SSVAENet
        The trained skorch net; ``net_.module_`` is the torch module.

    See Also
    --------
    SSVAEAnomalyDetector : The same model as a detector, with or without labels.
    sklearn.semi_supervised.LabelSpreading : Labels spread over a graph of neighbors.
    sklearn.semi_supervised.SelfTrainingClassifier : Any classifier on its own predictions.

    References
    ----------
    .. [1] F. Berkhahn, R. Keys, W. Ouertani, N. Shetty, D. Geissler, "Augmenting
       Variational Autoencoders with Sparse Labels: A Unified Framework for Unsupervised,
       Semi-(un)supervised, and Supervised Learning", 2019, arXiv:1908.03015.
    .. [2] T. Miyato, S. Maeda, M. Koyama, S. Ishii, "Virtual Adversarial Training: A
       Regularization Method for Supervised and Semi-Supervised Learning", 2018,
       arXiv:1704.03976.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_ssvae import SSVAEClassifier
    >>> X, y_true = load_wine(return_X_y=True)
    >>> y = np.where(np.arange(len(y_true)) % 6 == 0, y_true, -1)
    >>> (y >= 0).sum()
    np.int64(30)
    >>> clf = SSVAEClassifier(random_state=0).fit(X, y)
    >>> clf.score(X, y_true) > 0.9
    True
    >>> clf.transform(X).shape
    (178, 32)
    >>> X_new, y_new = clf.sample(4, y=[0, 1, 2, 2], random_state=0)
    >>> X_new.shape
    (4, 13)
    """

    _auto_hidden_layer_sizes = (512, 512)
    _max_auto_batch_size = 128
    _auto_batches = 7_500
    _auto_batches_recurrent = 1_000
    _auto_epochs = (10, 50)

    _parameter_constraints: dict = {
        **BaseSSVAE._parameter_constraints,
        "prior": [StrOptions({"auto", *PRIORS})],
        "alpha": [Interval(Real, 0, np.inf, closed="right"), StrOptions({"auto"})],
        "beta": [*BaseSSVAE._parameter_constraints["beta"], StrOptions({"auto"})],
        "learning_rate": [
            *BaseSSVAE._parameter_constraints["learning_rate"],
            StrOptions({"auto"}),
        ],
        "class_prior": ["array-like", None],
        "shrinkage": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        *,
        network="dense",
        hidden_layer_sizes="auto",
        latent_dim=32,
        input_shape=None,
        likelihood="auto",
        prior="auto",
        decoder_label="auto",
        alpha="auto",
        beta="auto",
        consistency="auto",
        augmentation="auto",
        class_prior=None,
        shrinkage="auto",
        labeled_fraction="auto",
        max_epochs="auto",
        batch_size="auto",
        learning_rate="auto",
        decay_after="auto",
        kl_warmup="auto",
        optimizer="adam",
        average=True,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        unlabeled=-1,
        device="auto",
        precision="float32",
        callbacks=None,
        net_params=None,
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            network=network,
            hidden_layer_sizes=hidden_layer_sizes,
            latent_dim=latent_dim,
            input_shape=input_shape,
            likelihood=likelihood,
            prior=prior,
            decoder_label=decoder_label,
            alpha=alpha,
            beta=beta,
            consistency=consistency,
            augmentation=augmentation,
            labeled_fraction=labeled_fraction,
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            decay_after=decay_after,
            kl_warmup=kl_warmup,
            optimizer=optimizer,
            average=average,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            unlabeled=unlabeled,
            device=device,
            precision=precision,
            callbacks=callbacks,
            net_params=net_params,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_prior = class_prior
        self.shrinkage = shrinkage

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y, init_model=None):
        """Fit the model to labeled and unlabeled rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            All rows, labeled and unlabeled. Tables in their own units; images and series
            in their own shape or flat.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The label of each row, `unlabeled` where there is none. Several columns are
            several factors, each with its own classes, pi head and unlabeled rows.
        init_model : fitted estimator or torch Module, default=None
            Start from the weights of this fitted SSVAEClassifier or SSVAEAnomalyDetector,
            which stays as it is. Its `network`, `hidden_layer_sizes`, `latent_dim`,
            `likelihood`, `prior` and `decoder_label` take the place of this estimator's,
            and its scaling is kept; classes that it does not know start with a fresh pi
            head that the decoder does not yet read. A Module is a VAE of your own, trained
            elsewhere on these rows as they are: its parts `encoder`, `mean`, `log_var` and
            `decoder` are of the classes that `network` names.

        Returns
        -------
        self : SSVAEClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If no row or only one class is labeled, if X has missing or infinite values,
            if a parameter is out of its range, or if the training diverges.
        """
        start = self._start_of_fit(init_model)
        X, row_shape, y = self._validate(X, y, reset=start is not self)
        known = as_list(self.classes_) if start is self else None
        codes, classes = encode_columns(y, self.unlabeled, known, grow=True)
        for column, of_column in enumerate(classes):
            where = "" if y.ndim == 1 else f" in column {column}"
            if not (codes[:, column] >= 0).any():
                raise ValueError(
                    f"y has no labeled row{where}: all {len(y)} values are the unlabeled "
                    f"marker {self.unlabeled!r}. Label at least one row of each class, or "
                    "use SSVAEAnomalyDetector, which needs no labels."
                )
            self._check_n_classes(of_column, where)
        return self._fit(X, row_shape, codes, classes, start)

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def partial_fit(self, X, y, classes=None):
        """Train one epoch on a chunk of rows, going on from the present weights.

        The scaling of the columns and the likelihood are learned from the first chunk,
        which therefore should be typical of the rest.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the chunk.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their labels, `unlabeled` where there is none. A chunk may have none at all.
        classes : array-like of shape (n_classes,) or list of them, default=None
            All classes of all chunks, a list with one item for each column of y if there
            are several. Needed at the first call, optional afterwards. The unlabeled
            marker may be among them, as in ``np.unique(y)``, and is no class.

        Returns
        -------
        self : SSVAEClassifier
            The estimator, one epoch further.

        Raises
        ------
        ValueError
            If `classes` is missing at the first call or differs from it later, if y holds
            a label that is not among them, with ``early_stopping=True``, or with
            ``alpha=inf`` if the first chunk has no label.
        """
        start = self if self.__sklearn_is_fitted__() else None
        if start is None and classes is None:
            raise ValueError(
                "classes must be passed on the first call to partial_fit: name all "
                "classes that any chunk may hold."
            )
        X, row_shape, y = self._validate(X, y, reset=start is None)
        if classes is None:
            classes = as_list(self.classes_)
        else:
            given = classes if y.ndim == 2 else [classes]
            self._check_nesting(classes, y)
            classes = [encode_labels(check_labels(c), self.unlabeled)[1] for c in given]
            if start is self and not (
                len(classes) == len(as_list(self.classes_))
                and all(map(np.array_equal, classes, as_list(self.classes_)))
            ):
                raise ValueError(
                    f"classes={given!r} is not the same as on last call to partial_fit, "
                    f"which was {self.classes_!r}."
                )
            for of_column in classes:
                self._check_n_classes(of_column)
        codes, classes = encode_columns(y, self.unlabeled, classes)
        if self.alpha == np.inf and not (codes >= 0).any():
            if start is None:
                raise ValueError(
                    "With alpha=inf the model learns from labels alone, and the first chunk "
                    "has none. Begin with a chunk that has labeled rows."
                )
            return self
        return self._fit(X, row_shape, codes, classes, start, epochs=1)

    @staticmethod
    def _check_nesting(classes, y):
        """Raise unless `classes` has a list for each of several columns, or is flat."""
        items = classes if hasattr(classes, "__iter__") else [classes]
        nested = [hasattr(c, "__len__") and not isinstance(c, str) for c in items]
        if y.ndim == 1 and any(nested):
            raise ValueError(
                f"y has one column of labels, so classes must be a flat list. Got {classes!r}."
            )
        if y.ndim == 2 and not (all(nested) and len(nested) == y.shape[1]):
            raise ValueError(
                f"y has {y.shape[1]} columns of labels, so classes must be a list with the "
                f"classes of each, such as [[0, 1], [0, 1, 2]] for two. Got {classes!r}."
            )

    def _fit(self, X, row_shape, codes, classes, start, epochs=None):
        """Train; encoder and pi heads alone learn from the labeled rows alone."""
        given = self._check_class_prior(classes)
        heads = [Head(of_column, len(of_column), len(of_column)) for of_column in classes]
        named = {str(column): head for column, head in enumerate(heads)}
        only_labels = self.alpha == np.inf
        rows = np.flatnonzero((codes >= 0).any(axis=1)) if only_labels else None
        add = epochs is not None and start is self
        network = getattr(start, "_architecture", {}).get("network", self.network)
        counts = self._label_counts(codes, heads, add)
        # Series that begin anywhere, and a stream's chunks, say little by neighbors.
        neighbors_tell = network != "recurrent" and epochs is None
        spread = [self._spread(X, c) if neighbors_tell else None for c in codes.T]
        possible = given or list(map(class_shares, counts, spread))
        self._class_shares = [shares[len(shares) // 2] for shares in possible]
        self._train(
            X,
            row_shape,
            codes,
            named,
            rows,
            start,
            epochs,
            class_shares=dict(zip(named, possible)),
            labels_per_class=min(count.mean() for count in counts),
            clustered=not neighbors_tell or labels_follow_neighbors(X, codes),
        )
        if epochs is None:
            self._fit_variance(X)
        before = getattr(self, "_vouched", None) if add else None
        self._vouched = np.zeros((len(heads), 2)) if before is None else before.copy()
        self._set_classes(heads, counts)
        self.class_prior_ = [
            shares if given or found else of_labels
            for shares, found, of_labels in zip(
                self._class_shares, spread, as_list(self.class_prior_)
            )
        ]
        if len(heads) == 1:
            self.class_prior_ = self.class_prior_[0]
        self._set_shrinkage(X, codes, spread)
        return self

    def _spread(self, X, codes):
        """Spread the labels of one factor; None in the paper's model, or if most have one."""
        n_labeled = np.count_nonzero(codes >= 0)
        if self.consistency == 0 or not 0 < 2 * n_labeled <= len(X):
            return None
        return spread_labels(X, codes)

    def _set_shrinkage(self, X, codes, spread):
        """Set how far `predict_proba` goes from pi to the shares of the classes."""
        shrinkage = [
            unless_auto(self.shrinkage, self._auto_shrinkage, X, of_column, column, found)
            for column, (of_column, found) in enumerate(zip(codes.T, spread))
        ]
        self.shrinkage_ = np.array(shrinkage) if len(shrinkage) > 1 else float(shrinkage[0])

    def _auto_shrinkage(self, X, codes, column, spread):
        if self.consistency == 0:
            return 0.0
        labeled = np.flatnonzero(codes >= 0)
        if not len(labeled):  # a chunk without labels
            known = hasattr(self, "shrinkage_")
            return np.atleast_1d(self.shrinkage_)[column] if known else MAX_SHRINKAGE
        count = as_list(self.class_count_)[column]
        if spread:
            accuracy = self._accuracy_by_neighbors(X, codes, column, spread)
        else:
            labeled = at_most(labeled, MAX_NEIGHBOR_LABELS)
            accuracy = np.mean(self._some_codes(X, labeled, column) == codes[labeled])
        # In a stream the last labels before this chunk's count as well.
        n_new = min(len(labeled), MAX_NEIGHBOR_LABELS)
        before, n_before = self._vouched[column]
        n_before = min(n_before, MAX_NEIGHBOR_LABELS - n_new)
        accuracy = np.average([accuracy, before], weights=[n_new, n_before])
        self._vouched[column] = accuracy, n_new + n_before
        some = at_most(range(len(X)), MAX_NEIGHBOR_LABELS)
        return shrinkage_for(
            confidence=np.exp(self._some_log_pi(X, some, column).max(axis=1)).mean(),
            accuracy=accuracy,
            n_labels=count.sum(),
            n_classes=len(count),
        )

    def _accuracy_by_neighbors(self, X, codes, column, spread):
        """Return the accuracy that the labels and the rows around them vouch for."""
        if not len(spread.told):  # no class has two labels
            return np.mean(self._some_codes(X, spread.rows, column) == spread.classes)
        labeled, nearest, pairs = surroundings_of_labels(X, codes)
        agree = 1.0
        if self.consistency_:  # or else pi may differ on neighbors by its errors alone
            one, other = (self._some_codes(X, side, column) for side in pairs)
            agree = np.mean(one == other)
        right = np.mean(self._some_codes(X, nearest, column) == codes[labeled])
        n_classes = len(as_list(self.class_count_)[column])
        told = np.mean(spread.told == spread.labels)
        return accuracy_for(right, agree, told, n_classes)

    def _some_codes(self, X, rows, column):
        """Most probable class of one factor, of some of the rows, as a code."""
        return self._some_log_pi(X, rows, column).argmax(axis=1)

    def _some_log_pi(self, X, rows, column):
        """Logarithm of pi of one factor, of some of the rows."""
        parts = [rows[block] for block in blocks(X, len(rows))]
        return np.concatenate([self._predict_log_pi(X[part])[column] for part in parts])

    def _check_class_prior(self, classes):
        """Return `class_prior` as the only possible shares of each factor; empty if None."""
        if self.class_prior is None:
            return []
        given = self.class_prior if len(classes) > 1 else [self.class_prior]
        try:
            given = [np.array(of_column, dtype=float) for of_column in given]
        except (TypeError, ValueError):  # a dict, or text
            given = []
        fits = len(given) == len(classes) and all(
            prior.shape == of_column.shape and prior.min() > 0 and np.isclose(prior.sum(), 1)
            for prior, of_column in zip(given, classes)
        )
        if not fits:
            raise ValueError(
                "class_prior must hold a positive share for each class, with sum 1, and one "
                f"such array for each factor if there are several. The classes are {classes}; "
                f"got {self.class_prior!r}."
            )
        return [prior[None] / prior.sum() for prior in given]

    def _validate(self, X, y, reset):
        if y is None:
            validate_data(self, X, y)  # raises scikit-learn's message
        X, row_shape = self._validate_X(X, reset, min_samples=2 if reset else 1)
        y = check_labels(y)
        check_consistent_length(X, y)
        return X, row_shape, y

    def _check_n_classes(self, classes, where=""):
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs labels of at least 2 classes, but y has only "
                f"one class{where}, {classes.tolist()!r}, beside the marker "
                f"{self.unlabeled!r} of rows without a label. Label rows of another class; "
                f"if {self.unlabeled!r} is a class of yours, name another marker with "
                "`unlabeled`; or use SSVAEAnomalyDetector to tell this class from everything "
                "else."
            )

    def predict_proba(self, X):
        """Class probabilities: pi(x), less sure by `shrinkage_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes), or list of them
            In [0, 1], each row sums to 1; columns in the order of `classes_`. A list with
            one item for each factor if there are several. A recurrent network's
            probabilities are pooled over time: the geometric mean of the steps',
            normalized.
        """
        log_proba = self.predict_log_proba(X)
        if isinstance(log_proba, list):
            return [np.exp(of_factor) for of_factor in log_proba]
        return np.exp(log_proba)

    def predict_log_proba(self, X):
        """Logarithm of the class probabilities, see `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes), or list of them
            At most 0; columns in the order of `classes_`.
        """
        log_pi = self._predict_log_pi(self._validate_fitted(X))
        log_proba = [
            shrink(of_factor, shrinkage, shares) if shrinkage else of_factor
            for of_factor, shrinkage, shares in zip(
                log_pi, np.atleast_1d(self.shrinkage_), self._class_shares
            )
        ]
        return log_proba if len(log_proba) > 1 else log_proba[0]

    def _predict_log_pi(self, X):
        """Return the logarithm of pi of each factor, a list of arrays."""

        def log_probs(module, x):
            logits = module.encode(module.standardize(x))[0]
            return torch.cat([torch.log_softmax(head, dim=1) for head in logits.values()], 1)

        ends = np.cumsum([len(classes) for classes in as_list(self.classes_)])
        return np.split(self._apply(log_probs, X, ends[-1]), ends[:-1], axis=1)

    def predict(self, X):
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predicted classes; never the unlabeled marker.
        """
        log_pi = self._predict_log_pi(self._validate_fitted(X))
        y = [
            classes[of_factor.argmax(axis=1)]
            for classes, of_factor in zip(as_list(self.classes_), log_pi)
        ]
        return stack_columns(y)

    def _score_samples(self, X):
        if self._architecture["prior"] == "normal":
            return super()._score_samples(X)
        return self._elbo(X)

    def score(self, X, y, sample_weight=None):
        """Accuracy on the labeled rows.

        Unlabeled rows of y are left out, so that a plain ``GridSearchCV`` or
        ``cross_val_score`` over partly labeled data reports the accuracy and not the
        share of rows without a label. With several factors a row counts as right if all
        of its labels are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True labels, `unlabeled` where there is none.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            In [0, 1]: the higher, the better.

        Raises
        ------
        ValueError
            If no row has a label, or the labels are strings and the classes are not.
        """
        check_is_fitted(self)
        predicted = self.predict(X)
        y = check_labels(y)
        check_consistent_length(predicted, y, sample_weight)
        if y.ndim != predicted.ndim or y.shape != predicted.shape:
            raise ValueError(
                f"y has the shape {y.shape}, but the predictions have {predicted.shape}."
            )
        right = np.ones(len(y), dtype=bool)
        labeled = np.zeros(len(y), dtype=bool)
        for of_factor, guess in zip(y.reshape(len(y), -1).T, predicted.reshape(len(y), -1).T):
            known = ~is_unlabeled(of_factor, self.unlabeled)
            labeled |= known
            values = labeled_values(of_factor, ~known)
            check_same_kind(values, guess)
            right[known] &= values == guess[known]
        if not labeled.any():
            raise ValueError(
                f"y has no labeled row to score on: all {len(y)} values are the unlabeled "
                f"marker {self.unlabeled!r}. Split with SemiSupervisedKFold, which puts "
                "labeled rows into every fold."
            )
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)[labeled]
            if not sample_weight.any():
                raise ValueError("sample_weight is zero on all labeled rows of y.")
        return float(np.average(right[labeled], weights=sample_weight))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = False
        return tags
