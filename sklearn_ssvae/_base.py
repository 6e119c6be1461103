"""What the two estimators share: parameters, training, and the passes over the data."""

import copy
import math
import threading
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
from skorch.callbacks import EarlyStopping
from skorch.helper import predefined_split

from ._batching import Rows
from ._data import (
    NOT_BERNOULLI,
    blocks,
    data_statistics,
    inside_unit_interval,
    stratified_holdout,
)
from ._labels import encode_labels
from ._likelihoods import LIKELIHOODS
from ._module import SSVAE
from ._net import (
    OPTIMIZERS,
    SSVAENet,
    optimizer_params,
    resolve_device,
    thread_limit,
)
from ._networks import NETWORKS

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


def _has_decoder(estimator):
    """Whether the model is more than encoder and pi head, for `available_if`."""
    if math.isinf(estimator.alpha):
        raise AttributeError(
            "With alpha=inf the model is an encoder and its classifier alone: it has no "
            "decoder and no latent space. Fit with a finite alpha."
        )
    return True


class BaseSSVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Shared parameters, training and passes; the two estimators are its only heirs."""

    _parameter_constraints: dict = {
        "network": [StrOptions(set(NETWORKS))],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "input_shape": ["array-like", None],
        "likelihood": [StrOptions({"auto", *LIKELIHOODS})],
        "beta": [Interval(Real, 0, None, closed="left")],
        "labeled_fraction": [Interval(Real, 0, 1, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), type],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "unlabeled": "no_validation",
        "device": [str],
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
        alpha,
        beta,
        labeled_fraction,
        max_epochs,
        batch_size,
        learning_rate,
        optimizer,
        early_stopping,
        validation_fraction,
        n_iter_no_change,
        warm_start,
        unlabeled,
        device,
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
        self.alpha = alpha
        self.beta = beta
        self.labeled_fraction = labeled_fraction
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.unlabeled = unlabeled
        self.device = device
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
        sizes = np.atleast_1d(self.hidden_layer_sizes)
        if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind != "i" or sizes.min() < 1:
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
        if math.prod(shape) != math.prod(row_shape):
            raise ValueError(
                f"input_shape={self.input_shape!r} means {math.prod(shape)} values a row, "
                f"but X has {math.prod(row_shape)}."
            )
        return shape

    def _choose_batch_size(self, n_samples):
        if self.batch_size != "auto":
            return self.batch_size
        return int(np.clip(n_samples // 20, 32, 512))

    def _architecture_for(self, row_shape, likelihood, n_classes, n_decoder_classes):
        """Return the arguments of `SSVAE` that the parameters and the data ask for."""
        has_decoder = not math.isinf(self.alpha)
        return {
            "network": self.network,
            "input_shape": self._network_shape(row_shape),
            "hidden_layer_sizes": self._hidden_layer_sizes(),
            "latent_dim": int(self.latent_dim),
            "likelihood": likelihood,
            "n_classes": n_classes,
            "n_decoder_classes": n_decoder_classes if has_decoder else 0,
            "has_decoder": has_decoder,
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

    def _new_module(self, architecture, rng):
        with _INIT_LOCK, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rng.randint(2**31 - 1))
            return SSVAE(**architecture)

    def _new_net(self, module, generator, n_samples, n_density_classes=None, valid=None):
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
            "labeled_fraction": self.labeled_fraction,
            "criterion__alpha": self.alpha,
            "criterion__beta": self.beta,
            "criterion__n_density_classes": n_density_classes,
            **optimizer_params(self.optimizer, device),
            "lr": self.learning_rate,
            "max_epochs": self.max_epochs,
            "batch_size": self._choose_batch_size(n_samples),
            "train_split": None if valid is None else predefined_split(valid),
            "callbacks": callbacks,
            "device": str(device),
            "verbose": int(self.verbose),
            **(self.net_params or {}),
        }
        return SSVAENet(module, generator, **settings).initialize()

    def _start_module(self, X, row_shape, classes, n_decoder_classes, start, rng):
        """Make the module to train: a new one, or one with the weights of `start`."""
        n_classes = len(classes)
        if start is None:
            likelihood, shift, scale = data_statistics(X, self.likelihood)
            architecture = self._architecture_for(
                row_shape, likelihood, n_classes, n_decoder_classes
            )
            module = self._new_module(architecture, rng)
            module.shift.copy_(torch.from_numpy(shift))
            module.scale.copy_(torch.from_numpy(scale))
            return module, architecture
        likelihood = self.likelihood if self.likelihood != "auto" else start.likelihood_
        architecture = self._architecture_for(
            row_shape, likelihood, n_classes, n_decoder_classes
        )
        if start is not self:
            for name in ("network", "hidden_layer_sizes", "latent_dim", "likelihood"):
                architecture[name] = start._architecture[name]
        self._check_start(start, architecture)
        start._check_support(X)
        known = start._net_classes.tolist()
        if architecture == start._architecture and known == classes.tolist():
            return copy.deepcopy(start.net_.module_).cpu(), architecture
        module = self._new_module(architecture, rng)
        pairs = [(i, known.index(c)) for i, c in enumerate(classes.tolist()) if c in known]
        module.carry_over(copy.deepcopy(start.net_.module_).cpu(), pairs)
        return module, architecture

    def _train(
        self,
        X,
        row_shape,
        codes,
        classes,
        n_normal=None,
        rows=None,
        start=None,
        epochs=None,
    ):
        """Train a net and take it over once it is done.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Validated rows.
        row_shape : tuple of int
            Shape of a row as the user gave it.
        codes : ndarray of int of shape (n_samples,)
            Class of each row, -1 where it has no label.
        classes : ndarray of shape (n_classes,)
            Classes of the pi head; empty for a model without one.
        n_normal : int, default=None
            How many of the classes the density is fitted to; by default all.
        rows : ndarray of int, default=None
            The rows to train on; by default all.
        start : fitted estimator, default=None
            Whose weights to start from; if it is this one, generator and optimizer
            continue as well.
        epochs : int, default=None
            Epochs to train; by default `max_epochs`.
        """
        rng = self._random_state()
        device = self.net_.device if start is self else resolve_device(self.device)
        n_decoder_classes = len(classes) if n_normal is None else n_normal
        module, architecture = self._start_module(
            X, row_shape, classes, n_decoder_classes, start, rng
        )
        generator = torch.Generator().manual_seed(rng.randint(2**31 - 1))

        train, valid = Rows(X, codes), None
        if rows is not None:
            train = train.subset(rows)
        if self.early_stopping:
            train, valid = self._split_validation(train, rng)
        anomalies = n_decoder_classes < len(classes)
        net = self._new_net(
            module.to(device),
            generator,
            len(train),
            n_density_classes=n_decoder_classes if anomalies else None,
            valid=valid,
        )
        if start is self:
            generator.set_state(self.net_.generator.get_state())
            if architecture == self._architecture:
                net.load_optimizer_state(copy.deepcopy(self.net_.optimizer_state()))
        with thread_limit(module):
            net.partial_fit(train, epochs=epochs)
        if epochs is None and not self.warm_start:
            net.drop_optimizer_state()

        history = self.history_ if start is self else {}
        self.history_ = _concatenate_history(history, net.epoch_terms)
        self.n_iter_ = len(self.history_["loss"])
        self.likelihood_ = architecture["likelihood"]
        self._row_shape = tuple(row_shape)
        self._architecture = architecture
        self._net_classes = classes
        self.net_ = net

    def _count_labels(self, codes, classes, n_density, add):
        """Set `classes_` and their shares, of these rows or of all chunks so far."""
        counts = np.bincount(codes[codes >= 0], minlength=len(classes))
        if add:
            before = dict(zip(self.classes_.tolist(), self.class_count_))
            counts += np.array([before.get(c, 0) for c in classes.tolist()], dtype=int)
        self.classes_ = classes
        self.class_count_ = counts
        in_density = counts[:n_density]
        self.class_prior_ = (
            in_density / in_density.sum()
            if in_density.any()
            else np.full(n_density, 1 / max(n_density, 1))
        )

    def _split_validation(self, rows, rng):
        train, held_out = stratified_holdout(rows.codes, self.validation_fraction, rng)
        labeled = rows.codes >= 0
        if not len(held_out) or (labeled.any() and not labeled[held_out].any()):
            raise ValueError(
                "early_stopping=True holds out a share of validation_fraction="
                f"{self.validation_fraction} of the rows, but {labeled.sum()} labeled rows "
                f"of {len(rows)} are too few: each class keeps one in training. Add "
                "labels, raise validation_fraction or pass early_stopping=False."
            )
        return rows.subset(train), rows.subset(held_out)

    def _forget(self):
        """Drop the fitted net, so that a failing fit leaves no half-fitted estimator."""
        if hasattr(self, "net_"):
            del self.net_

    def _start_of_fit(self, init_model):
        """Return the estimator whose weights a fit starts from, or None."""
        if init_model is not None:
            if not isinstance(init_model, BaseSSVAE):
                raise TypeError(
                    "init_model must be a fitted SSVAEClassifier or "
                    f"SSVAEAnomalyDetector. Got {init_model!r}."
                )
            check_is_fitted(init_model)
            if init_model is not self:
                self._forget()
            return init_model
        if self.warm_start and self.__sklearn_is_fitted__():
            return self
        self._forget()
        return None

    # Passes over the data

    def __sklearn_is_fitted__(self):
        return hasattr(self, "net_")

    def _validate_fitted(self, X):
        """Check rows for a fitted estimator and flatten them."""
        check_is_fitted(self)
        return self._validate_X(X, reset=False)[0]

    def _check_support(self, X):
        """Raise if X has values that the likelihood gives no probability."""
        if self.likelihood_ != "bernoulli":
            return
        for rows in blocks(X):
            if not inside_unit_interval(X[rows]):
                raise ValueError(NOT_BERNOULLI)

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
        with thread_limit(module), torch.inference_mode():
            for block in gen_batches(len(rows), n_block):
                n = block.stop - block.start
                x[:n] = rows[block]
                out[block] = function(module, torch.from_numpy(x).to(device))[:n].cpu()
        return out

    def _in_row_shape(self, X):
        return X.reshape(len(X), *self._row_shape)

    @property
    def _n_features_out(self):
        return self._architecture["latent_dim"]

    def transform(self, X):
        """Embed rows: the mean of q(z|x).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, latent_dim)
            Latent means. The prior is N(0, 1) in each of them.
        """
        X = self._validate_fitted(X)
        return self._apply(
            lambda module, x: module.encode(module.standardize(x))[1],
            X,
            self._n_features_out,
        )

    @available_if(_has_decoder)
    def inverse_transform(self, Z, y=None):
        """Decode latent vectors: the mean of p(x | z).

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            Latent vectors.
        y : label or array-like of shape (n_samples,), default=None
            Class to decode each vector with. By default the mean is taken over the
            classes, each weighted by its share of the labeled rows:
            ``sum_y p(y) E[x | y, z]``.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Decoded rows in the units of `fit`.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float64)
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but the latent space of this "
                f"{type(self).__name__} has {self._n_features_out} dimensions."
            )
        n_features = math.prod(self._row_shape)

        def decode(module, h):
            class_probs, z = h[:, : -Z.shape[1]], h[:, -Z.shape[1] :]
            mean = module.likelihood.mean(module.decode(class_probs, z))
            return module.to_own_units(mean)

        if y is None and self._n_decoder_classes:
            X = np.zeros((len(Z), n_features))
            for weight, one_hot in zip(self.class_prior_, np.eye(self._n_decoder_classes)):
                h = np.hstack([np.tile(one_hot, (len(Z), 1)), Z])
                X += weight * self._apply(decode, h, n_features)
        else:
            codes = self._decoder_codes(y, len(Z))
            X = self._apply(decode, np.hstack([self._one_hot(codes), Z]), n_features)
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
    def sample(self, n_samples=1, y=None, *, observation_noise=True, random_state=None):
        """Generate rows: z from its prior, then x from p(x | y, z).

        Parameters
        ----------
        n_samples : int, default=1
            How many rows.
        y : label or array-like of shape (n_samples,), default=None
            Class of the rows, one for all or one for each. By default classes are drawn
            by their share of the labeled rows.
        observation_noise : bool, default=True
            Whether to draw x from the likelihood. False gives its mean instead: smooth
            images, but rows that vary less than the data.
        random_state : int, RandomState instance or None, default=None
            Seed of the draw. By default the estimator's own `random_state`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Generated rows in the units of `fit`.
        y : ndarray of shape (n_samples,) or None
            Their classes; None for a model without classes.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1. Got {n_samples}.")
        rng = (
            self._random_state() if random_state is None else check_random_state(random_state)
        )
        n_classes = self._n_decoder_classes
        if y is None and n_classes:
            codes = rng.choice(n_classes, n_samples, p=self.class_prior_)
        else:
            codes = self._decoder_codes(y, n_samples)
        generator = torch.Generator().manual_seed(rng.randint(2**31 - 1))
        module = copy.deepcopy(self.net_.inference_module).cpu()
        z = module.prior.sample(n_samples, self._n_features_out, generator)
        with thread_limit(module), torch.inference_mode():
            params = module.decode(torch.from_numpy(self._one_hot(codes)), z)
            draw = (
                module.likelihood.sample(params, generator)
                if observation_noise
                else module.likelihood.mean(params)
            )
            X = module.to_own_units(draw).numpy()
        return self._in_row_shape(X), self._net_classes[codes] if n_classes else None

    @property
    def _n_decoder_classes(self):
        return self._architecture["n_decoder_classes"]

    def _decoder_codes(self, y, n_samples):
        """Encode the classes that the decoder shall see, one for each row."""
        known = self._net_classes[: self._n_decoder_classes]
        if y is None:
            return np.zeros(n_samples, dtype=int)
        y = np.asarray(y)
        y = np.full(n_samples, y) if y.ndim == 0 else y
        if len(y) != n_samples:
            raise ValueError(
                f"y has {len(y)} labels for {n_samples} rows. Pass one label for all of "
                "them or one for each."
            )
        if not np.isin(y, known).all():
            raise ValueError(
                f"y holds classes that the decoder does not know: it knows {known!r}."
            )
        return encode_labels(y, unlabeled=None, classes=known)[0]

    def _one_hot(self, codes):
        """Rows of the identity, of shape (n, n_decoder_classes)."""
        return np.equal.outer(codes, np.arange(self._n_decoder_classes)).astype(float)

    @available_if(_has_decoder)
    def score_samples(self, X):
        """Log-probability of each row given its own encoding, log p(x | pi(x), z(x)).

        Computed at the posterior mean, hence the same on every call and for any grouping
        of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats: the lower, the more abnormal. A log-density under the Gaussian
            likelihoods, so positive values are possible and the unit of X shifts them.
        """
        return self._score_samples(self._validate_fitted(X))

    def _score_samples(self, X):
        self._check_support(X)
        return self._apply(
            lambda module, x: module.log_prob(x).sum(dim=1, keepdim=True), X, 1
        )[:, 0]

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
            module = SSVAE(**self._architecture).to(device)
            self.net_ = self._new_net(module, torch.Generator(), 1)
            self.net_.load_state_arrays(state["net_"])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


# Here, because scikit-learn's wrapper for set_output would hide the condition.
BaseSSVAE.transform = available_if(_has_decoder)(BaseSSVAE.transform)
