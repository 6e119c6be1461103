"""The anomaly detector."""

from numbers import Real

import numpy as np
from sklearn.base import OutlierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length

from ._base import BaseSSVAE
from ._labels import UNLABELED_CODE, check_labels, encode_labels


def _tukey_fence(scores):
    """Lower fence of a box plot: first quartile less one and a half quartile ranges."""
    low, high = np.percentile(scores, [25, 75])
    return low - 1.5 * (high - low)


class SSVAEAnomalyDetector(OutlierMixin, BaseSSVAE):
    """Anomaly detector that needs no labels and gets better with labels of normal kinds.

    A variational autoencoder scores each row by the log-probability of its own
    reconstruction. Where rows have labels of their kind (operating mode, class), a softmax
    head pi on the encoder learns them and the decoder reads pi beside the latent z [1]_:
    the loss is that of `SSVAEClassifier`.

    The -1 of y and the -1 of `predict` are two things: y holds the *kind* of each row, -1
    where it is not known; `predict` gives verdicts, -1 for anomalies. Labels that mean
    "anomaly" are declared in `anomaly_labels`.

    Read more in the user guide.

    Parameters
    ----------
    network : {"dense"}, default="dense"
        Architecture of encoder and decoder. "dense" is fully connected with ReLU.
    hidden_layer_sizes : int or array-like of int, default=(512, 128)
        Widths of the encoder's hidden layers, bottom to top; the decoder has them in
        reverse.
    latent_dim : int, default=8
        Size of the latent z.
    input_shape : tuple of int, default=None
        Shape of one row as the network sees it, such as ``(28, 28)`` for images that come
        flat. By default the shape in which rows come. The dense network flattens it again.
    likelihood : str, default="auto"
        Distribution of a feature given the decoder's output: "auto", "bernoulli",
        "gaussian" or "heteroscedastic_gaussian". "bernoulli" is for values in
        [0, 1] and leaves them as they are. "gaussian" learns one variance per feature,
        "heteroscedastic_gaussian" one per feature and row; both standardise the columns
        inside the model. "auto" takes "bernoulli" if all values are in [0, 1] and at least
        a tenth of them exactly 0 or 1 (images, indicators), and "gaussian" otherwise.
    alpha : float, default=0.3
        Weight of the cross-entropy, at least 0 and finite. 0 drops the pi head and with it
        the labels (the paper's EU), as does y=None.
    beta : float, default=1.0
        Weight of the KL divergence in the ELBO, at least 0; 1 is the true ELBO, less
        reconstructs better, more keeps z closer to its prior.
    labeled_fraction : float, default=0.1
        Smallest share of labeled rows in a batch, in (0, 1). Rarer labels are repeated to
        make this share. The paper's is 0.5.
    contamination : "auto" or float, default="auto"
        Sets the threshold `offset_`. A float in (0, 0.5] is the share of training rows to
        flag. "auto" is the lower fence of a box plot of the training rows' scores: the
        first quartile less one and a half quartile ranges.
    anomaly_labels : label or array-like of labels, default=None
        Labels in y that mean known anomalies. Such rows stay out of the density; pi
        learns to tell them from the normal kinds, and the decoder reads the share of pi
        on normal kinds alone.
    max_epochs : int, default=100
        Epochs of a fit. One epoch passes every unlabeled row once.
    batch_size : int or "auto", default="auto"
        Rows of a batch, labeled and unlabeled together. "auto" is a twentieth of the rows,
        but at least 32 and at most 512.
    learning_rate : float, default=1e-3
        Step size of the optimizer.
    optimizer : {"adam", "adamw", "rmsprop"} or Optimizer class, default="adam"
        "rmsprop" is the paper's: smoothing 0.9, no momentum. A subclass of
        ``torch.optim.Optimizer`` works as well; its options go into `net_params` as
        ``{"optimizer__weight_decay": 1e-4}``.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the labeled rows (stratified) and of
        the unlabeled ones, stop when their loss no longer falls by 1e-4, and keep the
        weights of the best epoch.
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
    callbacks : list of skorch callbacks, default=None
        Cloned before use. They see the net and its history of losses.
    net_params : dict, default=None
        Further parameters of the `skorch.NeuralNet`.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and noise. The global states of numpy and torch are
        neither read nor changed.
    verbose : int, default=0
        1 shows a progress bar with the terms of the loss.

    Attributes
    ----------
    offset_ : float
        Threshold of the scores, ``decision_function = score_samples - offset_``.
    classes_ : ndarray of shape (n_classes,)
        The labels in y: the normal kinds, then the anomalies.
    class_count_ : ndarray of shape (n_classes,)
        Rows of each.
    class_prior_ : ndarray of shape (n_normal_classes,)
        Share of each normal kind among the rows labeled with one.
    history_ : dict of ndarray of shape (n_epochs,)
        Mean of each term of the loss by epoch: ``loss``, ``log_prob``, ``kl_divergence``
        and ``cross_entropy`` as far as the model has them, and ``valid_...`` of held-out
        rows. Nats a row, `log_prob` that of the standardised features.
    likelihood_ : str
        The likelihood in use, one of the names of `likelihood`.
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
    SSVAEClassifier : The same model as a classifier.
    sklearn.ensemble.IsolationForest : Anomalies by random partitions of the columns.
    sklearn.neighbors.LocalOutlierFactor : Anomalies by the density of neighbors.

    References
    ----------
    .. [1] F. Berkhahn, R. Keys, W. Ouertani, N. Shetty, D. Geissler, "Augmenting
       Variational Autoencoders with Sparse Labels: A Unified Framework for Unsupervised,
       Semi-(un)supervised, and Supervised Learning", 2019, arXiv:1908.03015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssvae import SSVAEAnomalyDetector
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(500, 1)) * [1.0, 2.0, -1.0] + 0.1 * rng.normal(size=(500, 3))
    >>> det = SSVAEAnomalyDetector(latent_dim=1, random_state=0).fit(X)
    >>> det.predict([[1.0, 2.0, -1.0], [1.0, -2.0, 1.0]])
    array([ 1, -1])
    >>> scores = det.score_features([[1.0, 2.0, 1.0]])  # the third column is wrong
    >>> scores.argmin()
    np.int64(2)
    """

    _parameter_constraints: dict = {
        **BaseSSVAE._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "anomaly_labels": "no_validation",
    }

    def __init__(
        self,
        *,
        network="dense",
        hidden_layer_sizes=(512, 128),
        latent_dim=8,
        input_shape=None,
        likelihood="auto",
        alpha=0.3,
        beta=1.0,
        labeled_fraction=0.1,
        contamination="auto",
        anomaly_labels=None,
        max_epochs=100,
        batch_size="auto",
        learning_rate=1e-3,
        optimizer="adam",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        unlabeled=-1,
        device="auto",
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
            alpha=alpha,
            beta=beta,
            labeled_fraction=labeled_fraction,
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            unlabeled=unlabeled,
            device=device,
            callbacks=callbacks,
            net_params=net_params,
            random_state=random_state,
            verbose=verbose,
        )
        self.contamination = contamination
        self.anomaly_labels = anomaly_labels

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, init_model=None):
        """Fit the density of the rows, with labels of their kinds where there are any.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            All rows. Tables in their own units; images and series in their own shape or
            flat.
        y : array-like of shape (n_samples,), default=None
            The kind of each row, `unlabeled` where it is not known. These are classes of
            normal rows (operating modes, digits), not verdicts; labels that mean "anomaly"
            are named in `anomaly_labels`.
        init_model : fitted SSVAEClassifier or SSVAEAnomalyDetector, default=None
            Start from the weights of this model, which stays as it is. Its `network`,
            `hidden_layer_sizes`, `latent_dim` and `likelihood` take the place of this
            estimator's, and its scaling is kept.

        Returns
        -------
        self : SSVAEAnomalyDetector
            The fitted estimator.

        Raises
        ------
        ValueError
            If y consists of -1 and 1, scikit-learn's verdicts, with no word on what they
            mean; if X has missing or infinite values, if a parameter is out of its range,
            or if the training diverges.
        """
        return self._fit(X, y, self._start_of_fit(init_model))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Train one epoch on a chunk of rows, going on from the present weights.

        The scaling of the columns and the likelihood are learned from the first chunk,
        which therefore should be typical of the rest. The threshold is set anew from the
        scores of each chunk. Kinds that a later chunk brings are added to the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the chunk.
        y : array-like of shape (n_samples,), default=None
            Kinds of the rows, as in `fit`.

        Returns
        -------
        self : SSVAEAnomalyDetector
            The estimator, one epoch further.
        """
        start = self if self.__sklearn_is_fitted__() else None
        return self._fit(X, y, start, epochs=1)

    def _fit(self, X, y, start, epochs=None):
        """Train, then set the threshold by the scores of all rows."""
        reset = start is not self
        X, row_shape = self._validate_X(X, reset, min_samples=2 if reset else 1)
        codes, classes, n_normal = self._encode(y, len(X), None if reset else self.classes_)
        in_density = codes < n_normal
        if not in_density.any():
            raise ValueError(
                "Every row is labeled as an anomaly, so there is nothing to fit the density "
                f"to: anomaly_labels={self.anomaly_labels!r}. Add rows that are normal or "
                "unlabeled."
            )
        if self.alpha > 0 and len(classes) > 1:
            self._train(X, row_shape, codes, classes, n_normal, start=start, epochs=epochs)
        else:
            # No pi head: known anomalies stay out of the training altogether.
            rows = None if in_density.all() else np.flatnonzero(in_density)
            no_codes = np.full(len(X), UNLABELED_CODE, dtype=np.int32)
            self._train(
                X, row_shape, no_codes, classes[:0], 0, rows, start=start, epochs=epochs
            )
        self._count_labels(codes, classes, n_normal, add=epochs is not None and not reset)
        self.offset_ = self._offset(self._score_samples(X))
        return self

    def _encode(self, y, n_samples, known):
        """Turn kinds into codes, those of normal rows first, those of anomalies last."""
        if y is None:
            classes = np.empty(0, dtype=int) if known is None else known
            codes = np.full(n_samples, UNLABELED_CODE, dtype=np.int32)
        else:
            y = check_labels(y)
            check_consistent_length(range(n_samples), y)
            self._refuse_verdicts(y)
            codes, classes = encode_labels(y, self.unlabeled, known, grow=True)
        anomalous = np.zeros(len(classes), dtype=bool)
        if self.anomaly_labels is not None:
            anomalous = np.isin(classes, np.atleast_1d(self.anomaly_labels))
        order = np.argsort(anomalous, kind="stable")
        new_codes = np.append(np.argsort(order), UNLABELED_CODE).astype(np.int32)
        return new_codes[codes], classes[order], int((~anomalous).sum())

    def _refuse_verdicts(self, y):
        """Raise if y looks like the output of an outlier detector's predict."""
        declared = self.anomaly_labels is not None
        if declared or y.dtype.kind not in "iuf" or self.unlabeled != -1:
            return
        if np.array_equal(np.unique(y), [-1, 1]):
            raise ValueError(
                "y holds exactly -1 and 1, which looks like scikit-learn's verdicts "
                "(-1 outlier, 1 inlier). Here y holds the kind of each row and -1 means "
                "unlabeled, so every outlier would count as unlabeled. If the -1 rows are "
                "known anomalies, pass unlabeled=None and anomaly_labels=[-1]; if they "
                "are unlabeled, give the kind another name, for example "
                "np.where(y == 1, 0, -1); without labels pass y=None."
            )

    def _offset(self, scores):
        if self.contamination == "auto":
            return _tukey_fence(scores)
        return np.percentile(scores, 100.0 * self.contamination)

    def fit_predict(self, X, y=None):
        """Fit the model and tell which of its own rows are anomalies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            All rows.
        y : array-like of shape (n_samples,), default=None
            The kind of each row, as in `fit`.

        Returns
        -------
        verdicts : ndarray of int of shape (n_samples,)
            -1 for anomalies, 1 for normal rows.
        """
        return self.fit(X, y).predict(X)

    def decision_function(self, X):
        """Score of each row relative to the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``: negative for anomalies, and the lower, the more
            abnormal.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Tell which rows are anomalies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        verdicts : ndarray of int of shape (n_samples,)
            -1 for anomalies, 1 for normal rows. These are not labels for `fit`.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score_features(self, X):
        """Log-probability of each feature of each row: what makes a row abnormal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_features)
            In nats: the lower, the more abnormal the feature is in its row. The sum over
            the features is `score_samples`.
        """
        X = self._validate_fitted(X)
        self._check_support(X)
        out = self._apply(lambda module, x: module.log_prob(x), X, X.shape[1])
        return self._in_row_shape(out)
