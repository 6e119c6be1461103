"""What the two estimators share: parameters, training, and the passes over the data."""

import copy
import functools
import itertools
import math
import threading
import warnings
from abc import abstractmethod
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.helper import predefined_split
from torch import nn

from ._batching import Rows
from ._data import (
    NOT_BERNOULLI,
    at_most,
    blocks,
    data_statistics,
    stratified_holdout,
)
from ._defaults import (
    RECURRENT_EPOCHS,
    alpha_for,
    augmentation_for,
    batch_size_for,
    beta_for,
    consistency_for,
    decay_after_for,
    decoder_label_for,
    epochs_for,
    is_recurrent,
    kl_warmup_for,
    labeled_fraction_for,
    learning_rate_for,
    prior_for,
    unless_auto,
)
from ._labels import as_list, encode_columns, stack_columns
from ._likelihoods import LIKELIHOODS, Gaussian
from ._module import PRECISIONS, SSVAE
from ._net import (
    OPTIMIZERS,
    SSVAENet,
    one_thread,
    optimizer_params,
    repeatable,
    resolve_device,
    thread_limit,
    warn_of_slow_precision,
)
from ._presets import paper_params
from ._priors import PRIORS
from ._scores import log_prob
from .networks import NETWORKS

# Rows from which the variances of the features are estimated at most, and how many of them
# the variance of the training counts for: the error on few rows is less than on others.
MAX_VARIANCE_ROWS = 10_000
VARIANCE_PRIOR_ROWS = 10

# Draws of z for the bound on a row's probability: pairs of opposite ones.
N_ELBO_DRAWS = 16

# What a fitted estimator brings along where it is the start of another.
BROUGHT_ALONG = (
    "network",
    "hidden_layer_sizes",
    "latent_dim",
    "likelihood",
    "prior",
    "decoder_label",
)

# torch initialises weights from its global generator, which threads share.
_INIT_LOCK = threading.Lock()


def _concatenate_history(history, epoch_terms):
    """Append epochs to a dict of arrays; a term that an epoch lacks is NaN there."""
    n_old = len(next(iter(history.values()), []))
    names = dict.fromkeys([*history, *(name for terms in epoch_terms for name in terms)])
    return {
        name: np.concatenate(
            [
                history.get(name, np.full(n_old, np.nan)),
                [terms.get(name, np.nan) for terms in epoch_terms],
            ]
        )
        for name in names
    }


def _wrap_vae(module, vae):
    """Give a module without pi heads the weights of a user's own trained VAE."""
    if module.decoder is None:
        raise ValueError(
            "With alpha=inf there is no decoder that could take over the weights of "
            "init_model. Pass a finite alpha."
        )
    for name in ("encoder", "mean", "log_var", "decoder"):
        part = getattr(vae, name, None)
        if not isinstance(part, nn.Module):
            raise TypeError(
                f"init_model={type(vae).__name__} has no part {name!r}. A VAE to start "
                "from has the modules encoder, mean, log_var (both nn.Linear) and decoder, "
                "of the classes that `network` names."
            )
        try:
            getattr(module, name).load_state_dict(part.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"The weights of init_model.{name} do not fit the one that network, "
                f"hidden_layer_sizes, latent_dim and likelihood make: {error}"
            ) from error
    return module


def _has_decoder(estimator):
    """Whether the model is more than encoder and pi head, for `available_if`."""
    fitted = getattr(estimator, "_architecture", None)
    if not fitted["has_decoder"] if fitted else estimator.alpha == math.inf:
        raise AttributeError(
            "With alpha=inf the model is an encoder and its classifier alone: it has no "
            "decoder and no latent space. Fit with a finite alpha."
        )
    return True


def all_or_nothing(method):
    """Let a method that fails, or is interrupted, leave the estimator as it was."""

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        before = vars(self).copy()
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return wrapped


class BaseSSVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Shared parameters, training and passes; the two estimators are its only heirs."""

    # What "auto" means: the sizes of the dense network, the largest batch, for how many
    # batches to train, any network or a recurrent one, and the bounds of epochs.
    _auto_hidden_layer_sizes = (512, 128)
    _max_auto_batch_size = 512
    _auto_batches = _auto_batches_recurrent = 2000
    _auto_epochs = (10, 100)

    _parameter_constraints: dict = {
        "network": [StrOptions(set(NETWORKS)), tuple],
        "hidden_layer_sizes": [
            StrOptions({"auto"}),
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "input_shape": ["array-like", None],
        "likelihood": [StrOptions({"auto", *LIKELIHOODS})],
        "prior": [StrOptions(set(PRIORS))],
        "decoder_label": [StrOptions({"auto", "predicted", "observed"}), None],
        "beta": [Interval(Real, 0, None, closed="left")],
        "consistency": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "augmentation": [StrOptions({"auto"}), callable, None],
        "labeled_fraction": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "decay_after": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "kl_warmup": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "optimizer": [StrOptions(set(OPTIMIZERS)), type],
        "average": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "unlabeled": "no_validation",
        "device": [str],
        "precision": [StrOptions(set(PRECISIONS))],
        "callbacks": [list, tuple, None],
        "net_params": [dict, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @abstractmethod
    def __init__(
        self,
        *,
        network,
        hidden_layer_sizes,
        latent_dim,
        input_shape,
        likelihood,
        prior,
        decoder_label,
        alpha,
        beta,
        consistency,
        augmentation,
        labeled_fraction,
        max_epochs,
        batch_size,
        learning_rate,
        decay_after,
        kl_warmup,
        optimizer,
        average,
        early_stopping,
        validation_fraction,
        n_iter_no_change,
        warm_start,
        unlabeled,
        device,
        precision,
        callbacks,
        net_params,
        random_state,
        verbose,
    ):
        self.network = network
        self.hidden_layer_sizes = hidden_layer_sizes
        self.latent_dim = latent_dim
        self.input_shape = input_shape
        self.likelihood = likelihood
        self.prior = prior
        self.decoder_label = decoder_label
        self.alpha = alpha
        self.beta = beta
        self.consistency = consistency
        self.augmentation = augmentation
        self.labeled_fraction = labeled_fraction
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.decay_after = decay_after
        self.kl_warmup = kl_warmup
        self.optimizer = optimizer
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.unlabeled = unlabeled
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.net_params = net_params
        self.random_state = random_state
        self.verbose = verbose

    # Training

    def _validate_X(self, X, reset, min_samples=1):
        """Check rows at the door and flatten them, without copying a float array."""
        try:
            X = validate_data(
                self,
                X,
                reset=reset,
                dtype=(np.float64, np.float32),
                allow_nd=True,
                ensure_min_samples=min_samples,
            )
        except ValueError as error:
            if "could not convert string" not in str(error):
                raise
            raise ValueError(
                f"X holds text where numbers are needed ({error}). Encode such columns "
                "first, for example with OneHotEncoder in a ColumnTransformer."
            ) from error
        row_shape = X.shape[1:]
        if not reset and row_shape != self._row_shape:
            raise ValueError(
                f"X has rows of shape {row_shape}, but {type(self).__name__} was fitted "
                f"on rows of shape {self._row_shape}."
            )
        return X.reshape(len(X), -1), row_shape

    def _random_state(self):
        """Return the source of seeds; None draws on the system, not on numpy's global."""
        if self.random_state is None:
            return np.random.RandomState()
        return check_random_state(self.random_state)

    def _hidden_layer_sizes(self):
        if isinstance(self.hidden_layer_sizes, str):
            if self.network == "dense" or isinstance(self.network, tuple):
                return self._auto_hidden_layer_sizes
            return paper_params(self.network)["hidden_layer_sizes"]
        sizes = np.atleast_1d(self.hidden_layer_sizes)
        whole = sizes.ndim == 1 and len(sizes) and sizes.dtype.kind in "iu"
        if not whole or sizes.min() < 1:
            raise ValueError(
                "hidden_layer_sizes must hold at least one width, each a positive "
                f"integer. Got {self.hidden_layer_sizes!r}."
            )
        return tuple(sizes.tolist())

    def _network_shape(self, row_shape):
        """Shape of a row as the network sees it."""
        if self.input_shape is None:
            return tuple(row_shape)
        shape = tuple(np.atleast_1d(self.input_shape).tolist())
        if not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError(
                f"input_shape must hold positive integers. Got {self.input_shape!r}."
            )
        if math.prod(shape) != math.prod(row_shape):
            raise ValueError(
                f"input_shape={self.input_shape!r} means {math.prod(shape)} values a row, "
                f"but X has {math.prod(row_shape)}."
            )
        return shape

    def _choose_max_epochs(self, net, n_batches):
        n_wanted, bounds = self._auto_batches, self._auto_epochs
        if is_recurrent(net.module_):
            n_wanted = self._auto_batches_recurrent
            # Without a decoder it learns the labels of so few rows by heart.
            bounds = RECURRENT_EPOCHS if self.alpha != math.inf else bounds
        return unless_auto(net.max_epochs, epochs_for, n_wanted, n_batches, bounds)

    def _choose_decay_after(self, net, n_batches, width, streams):
        scheduled = any(isinstance(callback, LRScheduler) for _, callback in net.callbacks_)
        if scheduled and net.decay_after not in (None, "auto"):
            raise ValueError(
                f"decay_after={net.decay_after} and the LRScheduler among the callbacks both "
                "set the step size. Pass decay_after=None, or leave out the callback."
            )
        if net.decay_after == "auto" and (streams or scheduled or net.module_.decoder is None):
            return None
        return unless_auto(net.decay_after, decay_after_for, net.module_, n_batches, width)

    def _choose_kl_warmup(self, net, n_batches, start):
        trained = start is not None and not net.n_batches
        if net.kl_warmup == "auto" and trained:  # they are not to forget their prior
            return None
        return unless_auto(net.kl_warmup, kl_warmup_for, net.module_, n_batches)

    def _architecture_for(self, row_shape, likelihood, prior, heads):
        """Return the arguments of `SSVAE` that the parameters and the data ask for."""
        if isinstance(self.network, tuple) and not (
            len(self.network) == 2 and all(map(callable, self.network))
        ):
            raise ValueError(
                "network must name an architecture or be a pair of callables that make an "
                f"encoder and a decoder. Got {self.network!r}."
            )
        return {
            "network": self.network,
            "input_shape": self._network_shape(row_shape),
            "hidden_layer_sizes": self._hidden_layer_sizes(),
            "latent_dim": int(self.latent_dim),
            "likelihood": likelihood,
            "prior": prior,
            "decoder_label": unless_auto(self.decoder_label, decoder_label_for, prior),
            "n_classes": {name: len(head.classes) for name, head in heads.items()},
            "n_generative_classes": {name: head.n_generative for name, head in heads.items()},
            "has_decoder": self.alpha != math.inf,
        }

    def _check_start(self, start, architecture):
        """Raise if a fitted estimator's weights do not fit the architecture."""
        for name, value in architecture.items():
            theirs = start._architecture[name]
            if not name.endswith("_classes") and theirs != value:
                raise ValueError(
                    f"The fitted weights to start from have {name}={theirs!r}, but this "
                    f"estimator asks for {value!r}. Give both the same {name}, or train "
                    "from the beginning (warm_start=False, init_model=None)."
                )

    def _check_feature_names(self, other):
        """Raise if another estimator was given columns of other names, or in another order."""
        names = [getattr(e, "feature_names_in_", None) for e in (self, other)]
        if all(of_one is not None for of_one in names) and not np.array_equal(*names):
            raise ValueError(
                "init_model was fitted on columns of other names or in another order: "
                f"{names[0].tolist()!r}. X has {names[1].tolist()!r}."
            )

    def _new_module(self, architecture, rng):
        with _INIT_LOCK, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rng.randint(2**31 - 1))
            return SSVAE(**architecture)

    def _new_net(
        self,
        module,
        generator,
        n_samples,
        n_labeled=0,
        class_shares=None,
        n_unlabeled=None,
        n_density_classes=None,
        valid=None,
        labels_per_class=0.0,
        clustered=True,
    ):
        """Build the skorch net around a module, with the present parameters."""
        device = next(module.parameters()).device
        callbacks = []
        if valid is not None:
            stopping = EarlyStopping(
                monitor="valid_loss",
                patience=self.n_iter_no_change,
                threshold=1e-4,
                threshold_mode="abs",
                load_best=True,
                sink=lambda text: None,
            )
            callbacks.append(("early_stopping", stopping))
        callbacks += clone(list(self.callbacks or []), safe=False)
        settings = {
            "labeled_fraction": unless_auto(
                self.labeled_fraction, labeled_fraction_for, n_labeled
            ),
            "augmentation": unless_auto(self.augmentation, augmentation_for, module),
            "average": self.average and valid is None,
            "decay_after": self.decay_after,
            "kl_warmup": self.kl_warmup,
            "precision": self.precision,
            "criterion__alpha": unless_auto(
                self.alpha, alpha_for, module.n_features, labels_per_class
            ),
            "criterion__beta": unless_auto(self.beta, beta_for, module),
            "criterion__consistency": unless_auto(
                self.consistency, consistency_for, module, clustered
            ),
            "criterion__class_shares": class_shares,
            "criterion__n_unlabeled": n_unlabeled,
            "criterion__n_density_classes": n_density_classes,
            **optimizer_params(self.optimizer, device),
            "lr": unless_auto(self.learning_rate, learning_rate_for, module),
            "max_epochs": self.max_epochs,
            "batch_size": unless_auto(
                self.batch_size, batch_size_for, n_samples, self._max_auto_batch_size
            ),
            "train_split": None if valid is None else predefined_split(valid),
            "callbacks": callbacks,
            "device": str(device),
            "verbose": int(self.verbose),
            **(self.net_params or {}),
        }
        return SSVAENet(module, generator, **settings).initialize()

    def _start_module(self, X, row_shape, heads, start, rng, clustered):
        """Make the module to train: a new one, or one with the weights of `start`."""
        if start is None or isinstance(start, nn.Module):
            # The channels of a series are instruments, each with a unit of its own.
            likelihood, shift, scale = data_statistics(
                X, self.likelihood, one_unit=self.network != "recurrent"
            )
            prior = unless_auto(self.prior, prior_for, len(X), self.network, clustered)
            architecture = self._architecture_for(row_shape, likelihood, prior, heads)
            module = self._new_module(architecture, rng)
            if start is not None:
                no_heads = self._architecture_for(row_shape, likelihood, prior, {})
                module.carry_over(_wrap_vae(self._new_module(no_heads, rng), start), {})
            else:
                module.shift.copy_(torch.from_numpy(shift))
                module.scale.copy_(torch.from_numpy(scale))
            return module, architecture
        likelihood = self.likelihood if self.likelihood != "auto" else start.likelihood_
        prior = self.prior if self.prior != "auto" else start._architecture["prior"]
        architecture = self._architecture_for(row_shape, likelihood, prior, heads)
        if start is not self:
            for name in BROUGHT_ALONG:
                architecture[name] = start._architecture[name]
        self._check_start(start, architecture)
        start._check_feature_names(self)
        start._check_support(X)
        known = {name: values.tolist() for name, values in start._net_classes.items()}
        classes = {name: head.classes.tolist() for name, head in heads.items()}
        if architecture == start._architecture and known == classes:
            return copy.deepcopy(start.net_.module_).cpu(), architecture
        module = self._new_module(architecture, rng)
        pairs = {
            name: [(i, known[name].index(c)) for i, c in enumerate(values) if c in known[name]]
            for name, values in classes.items()
            if name in known
        }
        module.carry_over(copy.deepcopy(start.net_.module_).cpu(), pairs)
        return module, architecture

    def _train(
        self,
        X,
        row_shape,
        codes,
        heads,
        rows=None,
        start=None,
        epochs=None,
        class_shares=None,
        labels_per_class=0.0,
        clustered=True,
    ):
        """Train a net and take it over once it is done.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Validated rows.
        row_shape : tuple of int
            Shape of a row as the user gave it.
        codes : ndarray of int of shape (n_samples, n_heads)
            Class of each row in each head, -1 where it has no label.
        heads : dict of str to Head
            The pi heads by name; empty for a model without one.
        rows : ndarray of int, default=None
            The rows to train on; by default all.
        start : fitted estimator or Module, default=None
            Whose weights to start from; if it is this one, generator and optimizer
            continue as well.
        epochs : int, default=None
            Epochs to train; by default `max_epochs`.
        class_shares : dict of str to ndarray of shape (n_shares, n_classes), default=None
            The shares that the classes of a head may have among the unlabeled rows.
        labels_per_class : float, default=0.0
            How many labels a class has, for the weight that follows it.
        clustered : bool, default=True
            Whether the classes may be clusters, for the parameters that follow it.
        """
        if epochs is not None and self.early_stopping:
            raise ValueError(
                "partial_fit trains one epoch, which has nothing to stop: set "
                "early_stopping=False, or call fit."
            )
        rng = self._random_state()
        device = self.net_.device if start is self else resolve_device(self.device)
        warn_of_slow_precision(self.precision, device)
        module, architecture = self._start_module(X, row_shape, heads, start, rng, clustered)
        generator = torch.Generator().manual_seed(rng.randint(2**31 - 1))

        train, valid = Rows(X, codes), None
        if rows is not None:
            train = train.subset(rows)
        if self.early_stopping:
            train, valid = self._split_validation(train, rng)
        anomalies = any(head.has_anomalies for head in heads.values())
        net = self._new_net(
            module.to(device),
            generator,
            len(train),
            n_labeled=int(train.labeled.sum()),
            class_shares=class_shares,
            n_unlabeled=dict(zip(heads, (train.codes < 0).sum(axis=0).tolist())),
            n_density_classes=(
                tuple(head.n_density for head in heads.values()) if anomalies else None
            ),
            valid=valid,
            labels_per_class=labels_per_class,
            clustered=clustered,
        )
        if start is self:
            generator.set_state(self.net_.generator.get_state())
            if architecture == self._architecture:
                net.load_training_state(copy.deepcopy(self.net_.training_state()))
        n_batches, width = net.n_batches_of(train), max(architecture["hidden_layer_sizes"])
        net.max_epochs = epochs or self._choose_max_epochs(net, n_batches)
        net.decay_after = self._choose_decay_after(net, n_batches, width, epochs is not None)
        net.kl_warmup = self._choose_kl_warmup(net, n_batches, start)
        with thread_limit(module), repeatable:
            net.partial_fit(train)
        if epochs is None and not self.warm_start:
            net.drop_training_state()

        history = self.history_ if start is self else {}
        self.history_ = _concatenate_history(history, net.epoch_terms)
        self.n_iter_ = len(self.history_["loss"])
        self.likelihood_ = architecture["likelihood"]
        self.prior_ = next(
            (name for name, kind in PRIORS.items() if isinstance(module.prior, kind)), None
        )
        self.alpha_ = net.criterion_.alpha
        self.consistency_ = net.criterion_.consistency
        self._row_shape = tuple(row_shape)
        self._architecture = architecture
        self._net_classes = {name: head.classes for name, head in heads.items()}
        self.net_ = net

    def _fit_variance(self, X, columns=None):
        """Set the variance of features to the one under which the rows are likeliest.

        Given the decoder, that is the mean squared error of what it makes of draws of z.
        A short training leaves the variances near those that they began with, which
        weighs the features well and describes their noise badly; a warm start goes on from
        those.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            The rows of this fit.
        columns : ndarray of bool of shape (n_features,), default=None
            The features to set the variance of; by default all.
        """
        module = self.net_.module_
        if self.alpha == math.inf or not isinstance(module.likelihood, Gaussian):
            return
        rows = at_most(X, MAX_VARIANCE_ROWS)
        generator = torch.Generator().manual_seed(0)

        def squared_error(module, x):
            noise = torch.randn((len(x), *module.latent_shape), generator=generator)
            drawn = module.standardize(module.reconstruct(x, noise))
            return (module.standardize(x) - drawn).square()

        n_features = math.prod(self._row_shape)
        error = sum(
            self._apply(squared_error, rows[block], n_features).sum(axis=0)
            for block in blocks(rows)
        )
        before = VARIANCE_PRIOR_ROWS * module.likelihood.variance().cpu().numpy()
        variance = (error + before) / (len(rows) + VARIANCE_PRIOR_ROWS)
        last = self.net_.weight_average
        if self.warm_start and not last.own:
            last.own = copy.deepcopy(module.state_dict())
        if columns is not None:
            columns = torch.from_numpy(columns)
        module.likelihood.set_variance(torch.from_numpy(variance), columns)
        # Rounded as it is, so that a copy of the model scores to the last bit as it does.
        of_model = module.likelihood.state_dict()
        self.net_.inference_module.likelihood.load_state_dict(of_model)

    def _label_counts(self, codes, heads, add):
        """Count the labels of each head, of these rows or of all chunks so far."""
        known = []
        if add:
            known = list(zip(as_list(self.classes_), as_list(self.class_count_)))
        counts = []
        for column, head in enumerate(heads):
            count = np.bincount(
                codes[codes[:, column] >= 0, column], minlength=len(head.classes)
            )
            if column < len(known):
                before = dict(zip(known[column][0].tolist(), known[column][1]))
                count += np.array([before.get(c, 0) for c in head.classes.tolist()], dtype=int)
            counts.append(count)
        return counts

    def _set_classes(self, heads, counts):
        """Set `classes_`, how many labels each has, and their shares."""
        classes = [head.classes for head in heads]
        shares = []
        for head, count in zip(heads, counts):
            in_density = count[: head.n_density]
            shares.append(
                in_density / in_density.sum()
                if in_density.any()
                else np.full(head.n_density, 1 / max(head.n_density, 1))
            )
        single = len(heads) == 1
        self.classes_ = classes[0] if single else classes
        self.class_count_ = counts[0] if single else counts
        self.class_prior_ = shares[0] if single else shares

    def _split_validation(self, rows, rng):
        train, held_out = stratified_holdout(rows.strata, self.validation_fraction, rng)
        labeled = rows.labeled
        if not len(held_out) or (labeled.any() and not labeled[held_out].any()):
            raise ValueError(
                "early_stopping=True holds out a share of validation_fraction="
                f"{self.validation_fraction} of the rows, but {labeled.sum()} labeled rows "
                f"of {len(rows)} are too few: each class keeps one in training. Add "
                "labels, raise validation_fraction or pass early_stopping=False."
            )
        return rows.subset(train), rows.subset(held_out)

    def _start_of_fit(self, init_model):
        """Return the estimator whose weights a fit starts from, or None."""
        if isinstance(init_model, nn.Module):
            return init_model
        if init_model is not None:
            if not isinstance(init_model, BaseSSVAE):
                raise TypeError(
                    "init_model must be a fitted SSVAEClassifier or SSVAEAnomalyDetector, "
                    "or a torch Module with the parts encoder, mean, log_var and decoder. "
                    f"Got {init_model!r}."
                )
            check_is_fitted(init_model)
            return init_model
        return self if self.warm_start and self.__sklearn_is_fitted__() else None

    # Passes over the data

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")

    def _validate_fitted(self, X):
        """Check rows for a fitted estimator and flatten them."""
        check_is_fitted(self)
        return self._validate_X(X, reset=False)[0]

    def _check_support(self, X):
        """Raise if X has values that the likelihood gives no probability."""
        if self._has_no_probability(X).any():
            raise ValueError(NOT_BERNOULLI)

    def _has_no_probability(self, X):
        """Tell which rows have values that the likelihood gives no probability."""
        outside = np.zeros(len(X), dtype=bool)
        if self.likelihood_ == "bernoulli":
            for rows in blocks(X):
                outside[rows] = ((X[rows] < 0) | (X[rows] > 1)).any(axis=1)
        return outside

    def _impossible(self, X):
        """Tell the same, and warn of them."""
        outside = self._has_no_probability(X)
        if outside.any():
            warnings.warn(
                f"{outside.sum()} of {len(X)} rows have values outside [0, 1], to which the "
                "Bernoulli likelihood gives no probability: their score is -inf. Scale X as "
                "for fit (images by 255, columns by MinMaxScaler(clip=True)), or fit with "
                'likelihood="gaussian".',
                stacklevel=2,
            )
        return outside

    def _apply(self, function, rows, n_out):
        """Apply a function of the module and a block of rows to all rows.

        Parameters
        ----------
        function : callable
            Maps ``(module, x)``, x a float64 Tensor of shape (n, n_columns), to a Tensor of
            shape (n, n_out).
        rows : ndarray of shape (n_samples, n_columns)
            Rows of any floating dtype.
        n_out : int
            Columns of the result.

        Returns
        -------
        out : ndarray of float64 of shape (n_samples, n_out)
            The results, row by row.
        """
        module = self.net_.inference_module
        device = next(module.parameters()).device
        n_weights = sum(parameter.numel() for parameter in module.parameters())
        # All blocks have one size, the last is filled up: the sums of a matrix product
        # run in an order that depends on its number of rows.
        n_block = 16 * int(np.clip(2**18 // n_weights, 4, 64))
        x = np.zeros((n_block, rows.shape[1]))
        out = np.empty((len(rows), n_out))
        # Blocks are too small to share: with two threads on busy cores, 1 s became 15.
        with one_thread, torch.inference_mode():
            for block in gen_batches(len(rows), n_block):
                n = block.stop - block.start
                x[:n] = rows[block]
                out[block] = function(module, torch.from_numpy(x).to(device))[:n].cpu()
        return out

    def _in_row_shape(self, X):
        return X.reshape(len(X), *self._row_shape)

    @property
    def _n_features_out(self):
        return math.prod(self.net_.module_.latent_shape)

    def transform(self, X):
        """Embed rows: the mean of q(z|x).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, latent_dim)
            Latent means. The normal prior is N(0, 1) in each of them, the class-conditional
            one has `class_means_` and `class_scales_`. A recurrent network has latent_dim
            of them at each time step, one step's behind another's.
        """
        X = self._validate_fitted(X)
        return self._apply(
            lambda module, x: module.encode(module.standardize(x))[1].flatten(1),
            X,
            self._n_features_out,
        )

    @available_if(_has_decoder)
    def inverse_transform(self, Z, y=None):
        """Decode latent vectors, such as `transform` gives: the mean of p(x | z).

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latent vectors.
        y : label or array-like of shape (n_samples,), default=None
            Class to decode each vector with, a row of labels if there are several
            factors. By default the mean is taken over the classes, each weighted by its
            share in `class_prior_`: ``sum_y p(y) E[x | y, z]``.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Decoded rows in the units of `fit`.

        Raises
        ------
        ValueError
            If y is given and the decoder reads no class, as under the class-conditional
            prior by default: there z has the class, and `sample` takes y with a style.
        """
        check_is_fitted(self)
        Z = self._check_latent(Z)
        if y is not None and not self._decoder_reads and self.prior_ != "normal":
            raise ValueError(
                "The decoder of this model reads z alone, which has the class by its prior. "
                "Leave y out, or generate rows of a class with sample(y=..., z=...)."
            )
        n_features = math.prod(self._row_shape)

        def decode(module, h):
            labels, z = h[:, : -Z.shape[1]], h[:, -Z.shape[1] :]
            mean = module.likelihood.mean(module.decode_rows(labels, z))
            return module.to_own_units(mean)

        if not self._decoder_reads and y is None:
            return self._in_row_shape(self._apply(decode, Z, n_features))
        if y is not None:
            labels = self._one_hot(self._generative_codes(y, len(Z)))
            X = self._apply(decode, np.hstack([labels, Z]), n_features)
            return self._in_row_shape(X)
        X = np.zeros((len(Z), n_features))
        shares = self._generative_class_shares()
        for codes in itertools.product(*(range(len(share)) for share in shares)):
            weight = math.prod(share[code] for share, code in zip(shares, codes))
            labels = self._one_hot(np.tile(np.array(codes, dtype=int), (len(Z), 1)))
            X += weight * self._apply(decode, np.hstack([labels, Z]), n_features)
        return self._in_row_shape(X)

    @available_if(_has_decoder)
    def reconstruct(self, X):
        """Encode and decode rows: the mean of p(x | pi(x), mean of q(z|x)).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features)
            Reconstructed rows in the same units.
        """
        X = self._validate_fitted(X)
        out = self._apply(lambda module, x: module.reconstruct(x), X, X.shape[1])
        return self._in_row_shape(out)

    @available_if(_has_decoder)
    def sample(
        self, n_samples=1, y=None, *, z=None, observation_noise=True, random_state=None
    ):
        """Generate rows: z from its prior, then x from p(x | y, z).

        Parameters
        ----------
        n_samples : int, default=1
            How many rows. Not used if `z` is given.
        y : label or array-like of shape (n_samples,), default=None
            Class of the rows, one for all or one for each. By default classes are drawn
            by their share in `class_prior_`. With several factors an array of shape
            (n_outputs,) or (n_samples, n_outputs).
        z : array-like of shape (n_samples, latent_dim), default=None
            Style of the rows: z itself under the normal prior, and under the
            class-conditional one its difference from the mean of the class in units of
            the class's standard deviations. By default drawn from N(0, 1).
        observation_noise : bool, default=True
            Whether to draw x from the likelihood. False gives its mean instead: smooth
            images, but rows that vary less than the data.
        random_state : int, RandomState instance or None, default=None
            Seed of the draw. By default the estimator's own `random_state`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Generated rows in the units of `fit`.
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), or None
            Their classes; None for a model of which neither decoder nor prior reads them.
        """
        check_is_fitted(self)
        if z is not None:
            z = self._check_latent(z)
            n_samples = len(z)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1. Got {n_samples}.")
        rng = (
            self._random_state() if random_state is None else check_random_state(random_state)
        )
        if y is None:
            draws = [
                rng.choice(len(share), n_samples, p=share)
                for share in self._generative_class_shares()
            ]
            codes = np.stack(draws, axis=1) if draws else np.empty((n_samples, 0), dtype=int)
        else:
            codes = self._generative_codes(y, n_samples)
        generator = torch.Generator().manual_seed(rng.randint(2**31 - 1))
        module = copy.deepcopy(self.net_.inference_module).cpu()
        shape = (n_samples, *module.latent_shape)
        style = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            if z is None
            else torch.from_numpy(z.copy()).reshape(shape)
        )
        with one_thread, torch.inference_mode():
            z = module.prior.place(torch.from_numpy(codes), style).flatten(1)
            params = module.decode_rows(torch.from_numpy(self._one_hot(codes)), z)
            draw = (
                module.likelihood.sample(params, generator)
                if observation_noise
                else module.likelihood.mean(params)
            )
            X = module.to_own_units(draw).numpy()
        known = self._generative_classes()
        y = [classes[column] for classes, column in zip(known, codes.T)]
        return self._in_row_shape(X), stack_columns(y) if y else None

    def _check_latent(self, Z):
        Z = check_array(Z, dtype=np.float64)
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but the latent space of this "
                f"{type(self).__name__} has {self._n_features_out} dimensions."
            )
        return Z

    def _generative_classes(self):
        """Classes that the decoder or the prior reads, an array for each head."""
        if self._architecture["prior"] == "normal" and not self._decoder_reads:
            return []
        n_read = self._architecture["n_generative_classes"]
        return [self._net_classes[name][:n] for name, n in n_read.items() if n]

    @property
    def _decoder_reads(self):
        return self._architecture["decoder_label"] is not None

    def _generative_class_shares(self):
        """Shares of these classes, those of `class_prior_`."""
        if not self._generative_classes():
            return []
        n_read = self._architecture["n_generative_classes"]
        shares = {str(i): share for i, share in enumerate(as_list(self.class_prior_))}
        return [shares.get(name, np.full(n, 1 / n)) for name, n in n_read.items() if n]

    def _generative_codes(self, y, n_samples):
        """Encode the classes to generate, shape (n_samples, n_heads)."""
        known = self._generative_classes()
        if not known:
            raise ValueError(
                "Neither decoder nor prior of this model reads classes, so none can be "
                "asked for: it was fitted without labels, or with decoder_label=None. Leave "
                "y out."
            )
        # As objects, labels of several factors keep their kinds.
        y = np.asarray(y, dtype=object if len(known) > 1 else None)
        per_row = y.ndim > (len(known) > 1)
        y = y if per_row else np.broadcast_to(y, (n_samples, *y.shape))
        if len(y) != n_samples:
            raise ValueError(
                f"y has {len(y)} labels for {n_samples} rows. Pass one label for all of "
                "them or one for each."
            )
        columns = [y] if y.ndim == 1 else [np.array(c.tolist()) for c in y.T]
        if len(columns) != len(known):
            raise ValueError(
                f"y has {len(columns)} columns, but the model has {len(known)} factors."
            )
        for column, classes in zip(columns, known):
            if not np.isin(column, classes).all():
                raise ValueError(
                    f"y holds classes that the model can't generate: it knows {classes!r}."
                )
        return encode_columns(y, unlabeled=None, classes=known)[0]

    def _one_hot(self, codes):
        """Codes of each head as the decoder reads them, shape (n, n_decoder_classes)."""
        parts = []
        if self._decoder_reads:
            sizes = [len(classes) for classes in self._generative_classes()]
            parts = [np.equal.outer(code, np.arange(n)) for code, n in zip(codes.T, sizes)]
        return np.hstack([np.empty((len(codes), 0)), *parts])

    def _prior_values(self, part, function):
        """Return a part of the class-conditional prior, an array for each factor."""
        check_is_fitted(self)
        prior = self.net_.module_.prior
        if not hasattr(prior, part):
            raise AttributeError(
                "Only a model with prior='class_conditional', and with classes, has class "
                "means and scales."
            )
        values = [
            function(tensor.detach().double().cpu().numpy())
            for tensor in getattr(prior, part).values()
        ]
        return values[0] if len(values) == 1 else values

    @property
    def class_means_(self):
        """Means of p(z|y), ndarray of shape (n_classes, latent_dim), or list of them."""
        return self._prior_values("means", np.asarray)

    @property
    def class_scales_(self):
        """Standard deviations of p(z|y), shape as `class_means_`."""
        return self._prior_values("log_vars", lambda log_var: np.exp(0.5 * log_var))

    @available_if(_has_decoder)
    def score_samples(self, X):
        """Log-probability of each row given its own encoding, log p(x | pi(x), z(x)).

        Computed at the posterior mean, hence the same on every call and for any grouping
        of the rows. Under the class-conditional prior it is the evidence lower bound on
        log p(x) instead, the mean over sixteen draws of z that are the same for all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats: the lower, the more abnormal. A log-density under the Gaussian
            likelihoods, so positive values are possible and the unit of X shifts them.
            Rows with values outside [0, 1], which the Bernoulli likelihood cannot draw, have
            -inf and a warning.
        """
        return self._score_samples(self._validate_fitted(X))

    def _score_samples(self, X):
        return self._log_probs(log_prob, X)

    def _log_probs(self, function, X):
        """Apply a function that gives each row a log-probability, -inf where it overflows."""
        scores = self._apply(function, X, 1)[:, 0]
        return np.where(np.isnan(scores) | self._impossible(X), -np.inf, scores)

    def _elbo(self, X):
        """Lower bound on log p(x) of each row, the mean over the same draws for all."""
        shape = (N_ELBO_DRAWS // 2, *self.net_.module_.latent_shape)
        half = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
        noise = torch.cat([half, -half])
        return self._log_probs(lambda module, x: module.elbo(x, noise), X)

    # State

    def __getstate__(self):
        """Return a state of arrays and plain values: small, and safe to open anywhere."""
        state = super().__getstate__().copy()
        if "net_" in state:
            state["net_"] = self.net_.state_arrays()
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "net_" in state:
            try:
                device = resolve_device(self.device)
            except ValueError:
                device = resolve_device("auto")
            module = self._new_module(self._architecture, np.random.RandomState(0)).to(device)
            try:
                self.net_ = self._new_net(module, torch.Generator(), 1)
            except (AttributeError, TypeError, ValueError):
                # Parameters set since that make no net: the next fit says so.
                self.net_ = type(self)()._new_net(module, torch.Generator(), 1)
            self.net_.load_state_arrays(state["net_"])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


# Here, because scikit-learn's wrapper for set_output would hide the condition.
BaseSSVAE.transform = available_if(_has_decoder)(BaseSSVAE.transform)
