"""The anomaly detector."""

import math
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from scipy.spatial import cKDTree
from sklearn.base import OutlierMixin, _fit_context
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import randomized_svd
from sklearn.utils.random import sample_without_replacement
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from ._base import MAX_VARIANCE_ROWS, BaseSSVAE, all_or_nothing
from ._data import at_most, blocks
from ._labels import (
    UNLABELED_CODE,
    Head,
    as_list,
    check_labels,
    encode_columns,
    is_unlabeled,
)
from ._scores import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    FEEDBACK_CLASSES,
    N_NORMAL_FEEDBACK,
    adjust,
    calibrate,
    describe_bulk,
    distance_from_bulk,
    elbo,
    log_feedback_factor,
    mean_distance,
    measure,
    surprises,
    terms_of,
)

# Rows among which the nearest are sought: how many, and how many values in all, unless that
# leaves less than a tenth of the rows.
MAX_REFERENCE = 3000
MAX_VALUES = 2**24
N_NEIGHBORS = 5

# Directions of the hidden features in which their bulk is described.
N_DIRECTIONS = 10

# A tenth of the rows calibrates the score, within these bounds.
MIN_HELD_OUT = 50
MAX_HELD_OUT = 1000

# Rows that set the threshold.
MAX_THRESHOLD = 100_000

# Bounds the memory that a search for neighbors takes.
BLOCK_ROWS = 512

# Rows are the same if no column differs by more than this share of its scale, as rows do
# that were stored in float32 or went through a transformer once more.
SAME = 1e-5


def _choose(rows, n, rng):
    """Draw n of the rows; unlike ``rng.choice`` without a copy of them all."""
    return rows[sample_without_replacement(len(rows), n, random_state=rng)]


def _matches(rows, known, scale):
    """List for each row the known ones that are equal to it but for rounding."""
    tree = cKDTree(known / scale)
    found = [
        tree.query_ball_point(rows[block] / scale, SAME, p=np.inf, return_sorted=True)
        for block in gen_batches(len(rows), BLOCK_ROWS)
    ]
    return [of_row for of_block in found for of_row in of_block]


def _absent(rows, known, scale):
    """Tell which rows are not among the known ones."""
    return np.array([not found for found in _matches(rows, known, scale)], dtype=bool)


def _leading_directions(features):
    """Find the directions in which rows vary most, orthonormal."""
    n_directions = min(N_DIRECTIONS, *features.shape)
    return randomized_svd(
        features - features.mean(axis=0),
        n_directions,
        power_iteration_normalizer="QR",
        random_state=0,
    )[2]


def _tukey_fence(scores):
    """Lower fence of a box plot: first quartile less one and a half quartile ranges."""
    low, high = np.percentile(scores, [25, 75])
    return low - 1.5 * (high - low)


class SSVAEAnomalyDetector(OutlierMixin, BaseSSVAE):
    """Anomaly detector that needs no labels and gets better with labels of normal kinds.

    A variational autoencoder is fitted to the rows, and a row is scored by how surprising
    its reconstruction error, its place among the hidden features of other rows and, with
    labels, its kind are (see `anomaly_score`). Where rows have labels of their kind
    (operating mode, class), a softmax head pi on the encoder learns them and the decoder
    reads pi beside the latent z [1]_: the loss is that of `SSVAEClassifier`.

    The -1 of y and the -1 of `predict` are two things: y holds the *kind* of each row, -1
    where it is not known; `predict` gives verdicts, -1 for anomalies. Labels that mean
    "anomaly" are declared in `anomaly_labels`.

    Verdicts of people on what it found, false positives and false negatives, train it
    further (`fit_feedback`).

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
        is an LSTM. "auto" is (512, 128), and the paper's for the other named networks:
        (512,) of "conv", (40, 40, 30) of "recurrent", (256,) of "small_norb".
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
        inside the model, or divide all by one number where they seem to have a unit in
        common (the root mean square of their standard deviations is at most twice the
        median and, of twelve columns or fewer, none is over ten times another). "auto"
        takes "bernoulli" if all values are in [0, 1] and at least a tenth of them exactly 0
        or 1 (images, indicators), and "gaussian" otherwise.
    prior : {"normal", "class_conditional"}, default="normal"
        Prior of z. "normal" is N(0, I), the paper's. "class_conditional" has a normal with
        learned mean and diagonal variance for each kind, p(z|y) = N(m_y, S_y): labels
        shape the latent space, and unlabeled rows are drawn to the kind that their z
        is near to. Without any label see `n_classes`.
    n_classes : int, default=None
        Components of a class-conditional prior where y has no labels: z then has a mixture
        of so many normals for a prior. By default N(0, I) in that case.
    decoder_label : {"auto", "predicted", "observed"} or None, default="auto"
        What the decoder reads beside z: "predicted" is pi(x) of every row, "observed" in
        training the label itself where a row has one, and None no class. "auto" is
        "predicted" with the normal prior and None with the class-conditional one.
    alpha : float or "auto", default="auto"
        Weight of the cross-entropy, at least 0 and finite. "auto" is 0.3, or 12 nats of the
        ELBO where that is more: ``max(0.3, 12 / n_features)``. 0 drops the pi head (the
        paper's EU) and leaves y unread, but for known anomalies, which stay out.
    beta : float, default=1.0
        Weight of the KL divergence in the ELBO, at least 0; 1 is the true ELBO, less
        reconstructs better, more keeps z closer to its prior.
    consistency : float or "auto", default="auto"
        Weight, in nats of the ELBO, of the change of pi between a row and neighbors that
        should have its kind, see `SSVAEClassifier`. "auto" is that of the classifier if pi
        learns known anomalies, and 0 otherwise.
    augmentation : "auto", callable or None, default="auto"
        What changes a row and leaves its kind, see `SSVAEClassifier`. Only used if
        `consistency` is not 0.
    labeled_fraction : float or "auto", default=0.1
        Smallest share of labeled rows in a batch, in (0, 1). Rarer labels are repeated to
        make this share; "auto" is that of `SSVAEClassifier`. The paper's is 0.5.
    anomaly_score : {"surprise", "elbo", "log_prob"}, default="surprise"
        What tells how abnormal a row is. "log_prob" is the paper's: the log-probability of
        a row given its own encoding. "elbo" has the KL divergence taken off it. "surprise"
        is minus a sum of surprises, each ``-log p`` with p the share of normal rows that
        are at least as extreme, in

        - the reconstruction: the negative ELBO, or of images, rows of shape (height,
          width) or (height, width, channels), the squared error given contrast and
          variation of the image,
        - the mean distance to the five nearest of at most 3,000 training rows in the
          encoder's hidden features; of an encoder of your own, what each ReLU of its
          `layers` gives, or else its output; of tables, or the Mahalanobis distance from
          the bulk of those rows in the ten leading directions of these features, whichever
          surprises more: anomalies that lie together are one another's neighbors (where
          y knows the kind of every row the neighbors alone count),
        - the doubt ``-log max pi`` about the kind, if there are kinds.

        Known anomalies add how far pi's odds for them are above those of the middle row, in
        nats. The score is calibrated on a tenth of the rows, unlabeled ones if they can be
        had and 1,000 at most, which stay out of the training (not out of earlier fits that
        it goes on from); of fewer than 500 rows all are trained on and calibrate it as well.
    contamination : "auto" or float, default="auto"
        Sets the threshold `offset_`. A float in (0, 0.5] is the share of training rows to
        flag, estimated on 100,000 of them if there are more. "auto" is the lower fence of
        a box plot of these rows' scores: the first quartile less one and a half quartile
        ranges.
    anomaly_labels : label, set or array-like of labels, default=None
        Labels in y that mean known anomalies. Such rows stay out of the density; pi
        learns to tell them from the normal kinds, and the decoder reads the share of pi
        on normal kinds alone. Where they are the only labels, pi learns to tell them from
        all other rows, and the decoder reads no class.
    max_epochs : int or "auto", default="auto"
        Epochs of a fit. One epoch passes every unlabeled row once. "auto" makes 2,000
        batches of them in 10 to 100 epochs, with the network "recurrent" in 10 to 300.
    batch_size : int or "auto", default="auto"
        Rows of a batch, labeled and unlabeled together. "auto" is a twentieth of the rows,
        but at least 32 and at most 512.
    learning_rate : float, default=1e-3
        Step size of the optimizer.
    decay_after : "auto", int or None, default=None
        Number of batches after which the step size falls, see `SSVAEClassifier`.
    kl_warmup : "auto", int or None, default="auto"
        Number of batches over which `beta` rises from 0, see `SSVAEClassifier`.
    optimizer : {"adam", "adamw", "rmsprop"} or Optimizer class, default="adam"
        "rmsprop" is the paper's: smoothing 0.9, no momentum. A subclass of
        ``torch.optim.Optimizer`` works as well; its options go into `net_params` as
        ``{"optimizer__weight_decay": 1e-4}``.
    average : bool, default=False
        Whether a fit ends with an average of the weights, see `SSVAEClassifier`.
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
    precision : {"float32", "bfloat16"}, default="float32"
        Numbers that the layers compute with in training, see `SSVAEClassifier`.
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
    offset_ : float
        Threshold of the scores, ``decision_function = score_samples - offset_``.
    reference_X_ : ndarray of shape (n_reference, n_features)
        The training rows among which the nearest are sought; with "surprise" alone.
    reference_score_ : float
        Score from which feedback measures abnormality: as far above the best
        training row as that is above the threshold of the plain scores. A row that looks
        normal is then flagged as soon as it is a false negative with more than one half.
    feedback_X_ : ndarray of shape (n_feedback, n_features)
        Rows with a verdict, gathered over the calls of `fit_feedback`; absent before.
    feedback_verdicts_ : ndarray of str of shape (n_feedback,)
        Their verdicts.
    classes_ : ndarray of shape (n_classes,), or list of them
        The labels in y: the normal kinds, then the anomalies. A list with one item for
        each factor if y has several columns, as are the two below.
    class_count_ : ndarray of shape (n_classes,), or list of them
        Rows of each.
    class_prior_ : ndarray of shape (n_normal_classes,), or list of them
        Share of each normal kind among the rows labeled with one.
    history_ : dict of ndarray of shape (n_epochs,)
        Mean of each term of the loss by epoch: ``loss``, ``log_prob``, ``kl_divergence``,
        ``cross_entropy`` and ``inconsistency`` as far as the model has them, and
        ``valid_...`` of held-out rows. Nats a row, `log_prob` that of the standardised
        features.
    alpha_, consistency_ : float
        The weights of the cross-entropy and of the consistency in use.
    likelihood_ : str
        The likelihood in use, one of the names of `likelihood`.
    prior_ : str
        The prior in use, "normal" or "class_conditional".
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
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "n_classes": [Interval(Integral, 2, None, closed="left"), None],
        "anomaly_score": [StrOptions({"surprise", "elbo", "log_prob"})],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "anomaly_labels": "no_validation",
    }

    def __init__(
        self,
        *,
        network="dense",
        hidden_layer_sizes="auto",
        latent_dim=8,
        input_shape=None,
        likelihood="auto",
        prior="normal",
        n_classes=None,
        decoder_label="auto",
        alpha="auto",
        beta=1.0,
        consistency="auto",
        augmentation="auto",
        labeled_fraction=0.1,
        anomaly_score="surprise",
        contamination="auto",
        anomaly_labels=None,
        max_epochs="auto",
        batch_size="auto",
        learning_rate=1e-3,
        decay_after=None,
        kl_warmup="auto",
        optimizer="adam",
        average=False,
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
        self.n_classes = n_classes
        self.anomaly_score = anomaly_score
        self.contamination = contamination
        self.anomaly_labels = anomaly_labels

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None, init_model=None):
        """Fit the density of the rows, with labels of their kinds where there are any.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            All rows. Tables in their own units; images and series in their own shape or
            flat.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The kind of each row, `unlabeled` where it is not known. These are classes of
            normal rows (operating modes, digits), not verdicts; labels that mean "anomaly"
            are named in `anomaly_labels`. Several columns are several factors. A single
            kind for all, ``np.zeros(n_samples)``, says that the rows are known to be normal.
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
        self : SSVAEAnomalyDetector
            The fitted estimator.

        Raises
        ------
        ValueError
            If y consists of -1 and 1, scikit-learn's verdicts, with no word on what they
            mean; if `anomaly_labels` names the marker of unlabeled rows; if X has missing or
            infinite values, if a parameter is out of its range, or if the training diverges.
        """
        start = self._start_of_fit(init_model)
        if start is not self:
            self._forget_feedback()
        return self._fit(X, y, start)

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def partial_fit(self, X, y=None):
        """Train one epoch on a chunk of rows, going on from the present weights.

        The scaling of the columns and the likelihood are learned from the first chunk,
        which therefore should be typical of the rest. Threshold and calibration of the
        score are set anew from each chunk; the rows for comparison are drawn from all
        chunks so far. Kinds that a later chunk brings are added to the model. A later chunk
        of known anomalies alone leaves the threshold and those rows as they are.

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

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit_feedback(self, X, y=None, *, X_feedback, verdicts):
        """Learn from verdicts on findings, going on from the present weights.

        A pi head of its own learns which rows resemble false positives and which false
        negatives, and the abnormality of every row is multiplied by
        ``(1 - p_fp) / (1 - p_fn)``, as section 5 of the paper proposes. Abnormality is the
        distance of a row's score from `reference_score_`. False positives join
        the rows that the density is fitted to, false negatives stay out of it, as do rows
        of X that are equal to one but for rounding. Works with and without labels of kinds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to train on, in general those of `fit`.
        y : array-like of shape (n_samples,), default=None
            Their kinds, as in `fit`. Without them, with a warning, a model that has learned
            kinds or known anomalies trains on these rows as unlabeled ones.
        X_feedback : array-like of shape (n_feedback, n_features)
            Rows that somebody has judged. They are added to those of earlier calls and kept
            with the model.
        verdicts : array-like of str of shape (n_feedback,)
            "false_positive" for a normal row that was flagged, "false_negative" for an
            anomaly that was not.

        Returns
        -------
        self : SSVAEAnomalyDetector
            The estimator after `max_epochs` more epochs, with a new `offset_`.

        Raises
        ------
        ValueError
            If a verdict is neither of the two words, if there are not as many as rows, or
            if `alpha` is 0, which leaves nothing that could learn them.
        """
        check_is_fitted(self)
        if self.alpha == 0:
            raise ValueError(
                "With alpha=0 the model learns no labels, and verdicts are labels. Set a "
                "positive alpha, for example set_params(alpha=0.3)."
            )
        X_feedback = self._validate_X(X_feedback, reset=False)[0]
        verdicts = column_or_1d(np.atleast_1d(np.asarray(verdicts, dtype=str)))
        check_consistent_length(X_feedback, verdicts)
        unknown = np.setdiff1d(verdicts, FEEDBACK_CLASSES[1:])
        if len(unknown):
            raise ValueError(
                f'verdicts must be "false_positive" or "false_negative", one for each row '
                f"of X_feedback. Got {unknown.tolist()!r}."
            )
        self._check_support(X_feedback)
        if y is None and any(map(len, as_list(self.classes_))):
            warnings.warn(
                f"The model has learned the labels {self.classes_!r}, and y=None takes them "
                "from all rows: known anomalies then count as normal. Pass the y of fit.",
                stacklevel=2,
            )
        before = self._feedback()
        self.feedback_X_ = np.concatenate([before[0], X_feedback])
        self.feedback_verdicts_ = np.concatenate([before[1], verdicts])
        return self._fit(X, y, start=self)

    def _feedback(self):
        """Return the rows and verdicts gathered so far."""
        if not hasattr(self, "feedback_X_"):
            return np.empty((0, math.prod(self._row_shape))), np.empty(0, dtype=str)
        return self.feedback_X_, self.feedback_verdicts_

    def _forget_feedback(self):
        for name in ("feedback_X_", "feedback_verdicts_"):
            if hasattr(self, name):
                delattr(self, name)

    def _fit(self, X, y, start, epochs=None):
        """Train, then set the threshold by the scores of the rows."""
        reset = start is not self
        X, row_shape = self._validate_X(X, reset, min_samples=2 if reset else 1)
        codes, heads = self._encode(y, len(X), reset)
        if y is not None and epochs is None:
            self._warn_of_absent_anomalies(heads)
        is_normal = codes < np.array([head.n_density for head in heads])
        verdicts = self._verdicts_of(X)
        in_density = is_normal.all(axis=1) & (verdicts != FALSE_NEGATIVE)
        add = epochs is not None and not reset
        if not in_density.any() and not (add and self.alpha != 0):
            raise ValueError(
                "Every row is an anomaly by its label or by a verdict, so there is nothing to "
                f"fit the density to: anomaly_labels={self.anomaly_labels!r}. Add rows that "
                "are normal or unlabeled."
            )
        named, learned = self._learned_heads(codes, heads, verdicts)
        held_out = self._hold_out(codes, in_density & (verdicts == UNLABELED_CODE))
        trained = is_normal.all(axis=1) if self.alpha == 0 else np.full(len(X), True)
        trained[held_out] = False
        rows = None if trained.all() else np.flatnonzero(trained)
        learns_anomalies = any(head.has_anomalies for head in named.values())
        X_train = X
        if hasattr(self, "feedback_X_") and self.alpha != 0:
            X_train, learned = self._join_feedback(X, learned, verdicts)
            named["feedback"] = Head(FEEDBACK_CLASSES, 0, N_NORMAL_FEEDBACK)
            if rows is not None:
                rows = np.append(rows, np.arange(len(X), len(X_train)))
        self._train(
            X_train,
            row_shape,
            learned,
            named,
            rows,
            start,
            epochs,
            clustered=learns_anomalies,
        )
        normal = np.flatnonzero(in_density & trained)
        if epochs is None:
            self._fit_constants(X, normal)
        self._n_kinds = {
            name: (head.n_density, len(head.classes))
            for name, head in named.items()
            if name.isdigit()
        }
        self._set_classes(heads, self._label_counts(codes, heads, add))
        vouched = self._vouched_for(codes, heads) | (verdicts == FALSE_POSITIVE)
        hides_some = bool((in_density & ~vouched).any())
        self._may_hide_anomalies = hides_some or (add and self._may_hide_anomalies)
        if in_density.any():
            self._score = self.anomaly_score
        if self._score != "surprise":
            vars(self).pop("reference_X_", None)
        else:
            self._calibrate(X, normal, held_out, add)
        if in_density.any():
            self._set_threshold(X)
        return self

    def _fit_constants(self, X, normal):
        """Set the variances of columns that are constant, so that a change is seen.

        The others stay as trained: those of columns that are seldom anything but zero would
        be so small that whatever row has something there is an anomaly.
        """
        constant = np.full(X.shape[1], True)
        for block in blocks(X, len(normal)):
            constant &= (X[normal[block]] == X[normal[0]]).all(axis=0)
        if constant.any():
            self._fit_variance(X[at_most(normal, MAX_VARIANCE_ROWS)], constant)

    def _vouched_for(self, codes, heads):
        """Tell of which rows y says that they are no anomalies, among normal rows."""
        known = codes >= 0
        of_anomalies = [column for column, head in enumerate(heads) if head.has_anomalies]
        return known.any(axis=1) & known[:, of_anomalies].all(axis=1)

    def _learned_heads(self, codes, heads, verdicts):
        """Return the heads that pi learns, by name, and the codes of each.

        Known anomalies that are the only labels of a column get a contrast class, as
        verdicts do: all rows beside them. Neither decoder nor prior reads it.
        """
        named, columns = {}, []
        for column, head in enumerate(heads):
            code = codes[:, column]
            if len(head.classes) and not head.n_density:
                head = Head(np.append(None, head.classes), 0, 1)
                code = np.where((code < 0) & (verdicts == FALSE_NEGATIVE), code, code + 1)
            # A head of a single class has nothing to learn.
            if self.alpha != 0 and len(head.classes) > 1:
                named[str(column)] = head
                columns.append(code)
        generative = any(head.n_generative for head in named.values())
        if not generative and self.prior == "class_conditional" and self.n_classes:
            named["mixture"] = Head(np.arange(self.n_classes), *2 * (self.n_classes,))
            columns.append(np.full(len(codes), UNLABELED_CODE, dtype=np.int32))
        learned = np.stack(columns, axis=1) if columns else codes[:, :0]
        return named, learned

    def _set_threshold(self, X):
        """Score the rows, or some of many, block by block, and set the threshold."""
        rows = np.arange(len(X))
        if len(X) > MAX_THRESHOLD:
            rng = self._random_state()
            rows = np.sort(_choose(rows, MAX_THRESHOLD, rng))
        parts = [rows[block] for block in gen_batches(len(rows), BLOCK_ROWS)]
        scores = [self._score_samples(X[part]) for part in parts]
        plain = np.concatenate(scores)
        self.reference_score_ = 2 * plain.max() - self._offset(plain)
        adjusted = [self._adjust(X[part], of_part) for part, of_part in zip(parts, scores)]
        self.offset_ = self._offset(np.concatenate(adjusted))

    def _hold_out(self, codes, in_density):
        """Choose the rows that calibrate the score; unlabeled ones, if they are the most."""
        n_density = int(in_density.sum())
        n_held_out = min(n_density // 10, MAX_HELD_OUT)
        if self.anomaly_score != "surprise" or n_held_out < MIN_HELD_OUT:
            return np.empty(0, dtype=int)
        pool = in_density & (codes < 0).all(axis=1)
        if 2 * pool.sum() < n_density:
            pool = in_density.copy()
        for column in codes.T:
            # Each class keeps a row in training.
            labeled = np.flatnonzero(column >= 0)
            pool[labeled[np.unique(column[labeled], return_index=True)[1]]] = False
        return _choose(np.flatnonzero(pool), n_held_out, self._random_state())

    def _calibrate(self, X, normal, held_out, add):
        """Draw the reference rows and calibrate the surprises.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            The rows of this fit.
        normal, held_out : ndarray of int
            The normal rows that were trained on, and those that were not.
        add : bool
            Whether the reference rows of earlier chunks compete with those of X.
        """
        rng = self._random_state()
        n_max = min(MAX_REFERENCE, max(MAX_REFERENCE // 10, MAX_VALUES // X.shape[1]))
        known, n_seen = X[:0], 0
        if add and hasattr(self, "reference_X_"):
            known, n_seen = self.reference_X_, self._n_seen
            # A chunk that comes again would be its own neighbor.
            normal = normal[_absent(X[normal], known, self._column_scale)]
        n_new = len(normal)
        self._n_seen = n_seen + n_new
        if len(known) + n_new > n_max:
            n_new = min(n_new, max(n_max - len(known), n_max * n_new // self._n_seen))
            known = known[rng.permutation(len(known))[: n_max - n_new]]
        drawn = X[_choose(normal, n_new, rng)]
        rows = np.concatenate([known, drawn.astype(known.dtype)])
        found = self._feedback()[0].astype(rows.dtype)
        found = found[self._verdicts_of(found) == FALSE_POSITIVE]
        absent = _absent(found, rows, self._column_scale)
        self.reference_X_ = np.concatenate([rows, found[absent]])
        rows = X[held_out] if len(held_out) else self.reference_X_[-MAX_HELD_OUT:]
        self._neighbors = None
        has_evidence = terms_of(self._n_kinds)[1]
        self._calibration = calibrate(*self._measure(rows), has_evidence)

    def _measure(self, X):
        """Measure what the surprises of rows are made of, and how far off the rows are."""
        n_own = 3 + sum(terms_of(self._n_kinds))

        def measure_block(module, x):
            return measure(module, x, self._n_kinds)

        if getattr(self, "_neighbors", None) is None:
            module, row = self.net_.inference_module, self.reference_X_[:1]
            with torch.inference_mode():
                x = torch.from_numpy(row.astype(np.float64))
                n_out = measure_block(module, x.to(module.shift.device)).shape[1]
            reference = self._apply(measure_block, self.reference_X_, n_out)[:, n_own:]
            n_neighbors = min(N_NEIGHBORS + 1, len(reference))
            index = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute")
            bulk = None
            if len(self._architecture["input_shape"]) == 1 and self._may_hide_anomalies:
                bulk = describe_bulk(reference, _leading_directions(reference))
            self._neighbors = reference, index.fit(reference), bulk
        reference, index, bulk = self._neighbors
        out = self._apply(measure_block, X, n_own + reference.shape[1])
        overflows = ~np.isfinite(out).all(axis=1)
        out[overflows] = 0.0
        features = out[:, n_own:]
        nearest = index.kneighbors(features, return_distance=False)
        # Their distances by differences: those of the search lose half of the digits.
        distances = np.linalg.norm(features[:, None] - reference[nearest], axis=2)
        lengths = np.linalg.norm(features, axis=1)
        far = [mean_distance(distances, lengths)]
        if bulk is not None:
            far.append(distance_from_bulk(features, bulk))
        out[overflows, 0] = np.inf  # their error
        return out[:, :n_own], np.stack(far, axis=1)

    def _score_samples(self, X):
        if self._score == "log_prob":
            return super()._score_samples(X)
        if self._score == "elbo":
            return self._log_probs(elbo, X)
        scores = np.empty(len(X))
        for rows in gen_batches(len(X), BLOCK_ROWS):
            terms = surprises(*self._measure(X[rows]), self._calibration)
            scores[rows] = -terms.sum(axis=1)
        scores[self._impossible(X)] = -np.inf
        return scores

    def __getstate__(self):
        state = super().__getstate__()
        state.pop("_neighbors", None)
        return state

    def _verdicts_of(self, X):
        """Code of the last verdict on each row, -1 where nobody has judged one like it."""
        codes = np.full(len(X), UNLABELED_CODE, dtype=np.int32)
        if not hasattr(self, "feedback_X_"):
            return codes
        judged = [FEEDBACK_CLASSES.tolist().index(name) for name in self.feedback_verdicts_]
        for row, found in enumerate(_matches(X, self.feedback_X_, self._column_scale)):
            if found:
                codes[row] = judged[found[-1]]
        return codes

    @property
    def _column_scale(self):
        """What the model divides each column by, shape (n_features,)."""
        return self.net_.module_.scale.cpu().numpy()

    def _join_feedback(self, X, codes, verdicts):
        """Append the judged rows that X lacks, and a column of verdicts to the codes.

        The head needs a contrast class: rows that are not flagged, a few for each verdict,
        so that the verdicts are not lost among them.
        """
        column = verdicts.copy()
        accepted = self._adjust(X, self._score_samples(X)) >= self.offset_
        rows = np.flatnonzero(accepted & (verdicts == UNLABELED_CODE))
        n_contrast = min(len(rows), max(100, 5 * len(self.feedback_verdicts_)))
        column[self._random_state().choice(rows, n_contrast, replace=False)] = 0
        missing = self.feedback_X_.astype(X.dtype)
        judged_rows = X[verdicts != UNLABELED_CODE]
        missing = missing[_absent(missing, judged_rows, self._column_scale)]
        judged = self._verdicts_of(missing)
        rest = np.full((len(missing), codes.shape[1]), UNLABELED_CODE, dtype=np.int32)
        codes = np.column_stack([np.vstack([codes, rest]), np.append(column, judged)])
        return np.concatenate([X, missing]), codes

    def _encode(self, y, n_samples, reset):
        """Turn kinds into codes, those of normal rows first, those of anomalies last.

        Returns codes of shape (n_samples, n_outputs) and a list of heads.
        """
        known = None if reset else as_list(self.classes_)
        if known is not None and not any(map(len, known)):
            known = None  # a model without labels takes any number of factors
        anomaly_labels = self._check_anomaly_labels()
        if y is None or (self.alpha == 0 and self.anomaly_labels is None):
            classes = [np.empty(0, dtype=int)] if known is None else known
            codes = np.full((n_samples, len(classes)), UNLABELED_CODE, dtype=np.int32)
        else:
            y = check_labels(y)
            check_consistent_length(range(n_samples), y)
            self._refuse_verdicts(y)
            codes, classes = encode_columns(y, self.unlabeled, known, grow=True)
        heads = []
        for column, of_column in enumerate(classes):
            anomalous = np.isin(of_column, anomaly_labels)
            order = np.argsort(anomalous, kind="stable")
            new_codes = np.append(np.argsort(order), UNLABELED_CODE).astype(np.int32)
            codes[:, column] = new_codes[codes[:, column]]
            n_normal = int((~anomalous).sum())
            heads.append(Head(of_column[order], n_normal, n_normal))
        return codes, heads

    def _check_anomaly_labels(self):
        """Return `anomaly_labels` as an array, empty without any."""
        labels = [] if self.anomaly_labels is None else self.anomaly_labels
        if isinstance(labels, (set, frozenset)):
            labels = list(labels)
        labels = np.atleast_1d(labels)
        if labels.ndim > 1 or (labels.dtype.kind == "O" and not all(map(np.isscalar, labels))):
            raise ValueError(
                "anomaly_labels must be a label, or a flat list of labels, that mean a known "
                f"anomaly. Got {self.anomaly_labels!r}."
            )
        if is_unlabeled(labels, self.unlabeled).any():
            raise ValueError(
                f"anomaly_labels={self.anomaly_labels!r} names the marker of unlabeled rows, "
                f"unlabeled={self.unlabeled!r}. If these rows are known anomalies, pass "
                "another marker, for example unlabeled=None."
            )
        return labels

    def _refuse_verdicts(self, y):
        """Raise if y looks like the output of an outlier detector's predict."""
        if self.anomaly_labels is not None or str(self.unlabeled) != "-1":
            return
        distinct = set(y.ravel().tolist()) if y.dtype.kind in "OU" else np.unique(y)
        if {str(value).removesuffix(".0") for value in distinct} == {"-1", "1"}:
            raise ValueError(
                "y holds exactly -1 and 1, which looks like scikit-learn's verdicts "
                "(-1 outlier, 1 inlier). Here y holds the kind of each row and -1 means "
                "unlabeled, so every outlier would count as unlabeled. If the -1 rows are "
                "known anomalies, pass unlabeled=None and anomaly_labels=[-1]; if they "
                "are unlabeled and the others known anomalies, pass anomaly_labels=[1]; if "
                "the others are a kind of normal rows, give it another name, for example "
                "np.where(y == 1, 0, -1); without labels pass y=None, or alpha=0, which does "
                "not read y."
            )

    def _warn_of_absent_anomalies(self, heads):
        """Warn if a label that was declared to mean an anomaly is in no column."""
        if self.anomaly_labels is None:
            return
        found = {label for head in heads for label in head.classes.tolist()}
        absent = set(self._check_anomaly_labels().tolist()) - found
        if absent:
            warnings.warn(
                f"anomaly_labels names {sorted(absent, key=str)}, which no row of y has. Its "
                f"labels are {sorted(found, key=str)}: those that are not named count as "
                "normal kinds.",
                stacklevel=2,
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

    def score_samples(self, X, feedback=True):
        """Score each row by `anomaly_score`, adjusted by feedback.

        Computed at the posterior mean, hence the same on every call and for any grouping
        of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.
        feedback : bool, default=True
            Whether verdicts of `fit_feedback`, if there are any, adjust the scores.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats: the lower, the more abnormal. Minus a sum of surprises is never
            positive. ELBO and log-probability are log-densities under the Gaussian
            likelihoods, which may be positive and which the unit of X shifts. Rows with
            values outside [0, 1], which the Bernoulli likelihood cannot draw, have -inf and
            a warning.
        """
        X = self._validate_fitted(X)
        scores = self._score_samples(X)
        return self._adjust(X, scores) if feedback else scores

    def _adjust(self, X, scores):
        """Scale the scores by the head that learned the verdicts, if there is one."""
        if "feedback" not in self._net_classes:
            return scores
        log_factor = self._apply(log_feedback_factor, X, 1)[:, 0]
        # A row that overflows stays as abnormal as it is.
        return adjust(scores, np.nan_to_num(log_factor), self.reference_score_)

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
            the features is the score "log_prob" before feedback adjusts it, the part of
            the other scores that features have a share in.
        """
        X = self._validate_fitted(X)
        out = self._apply(lambda module, x: module.log_prob(x), X, X.shape[1])
        if self._impossible(X).any():
            out[(X < 0) | (X > 1)] = -np.inf
        return self._in_row_shape(np.where(np.isnan(out), -np.inf, out))
