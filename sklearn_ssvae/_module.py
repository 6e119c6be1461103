"""The model: encoder with its heads, and the decoder that reads pi beside z."""

import contextlib
import math

import torch
from torch import nn
from torch.nn import functional as F

from ._likelihoods import LIKELIHOODS
from ._priors import PRIORS, with_labels
from .networks import NETWORKS, Dropout

# Keeps exp(log_var) finite for rows far outside the training data.
MAX_LOG_VAR = 20.0

# Length of the adversarial perturbation in the spread of a feature, by the feature and at
# most, and the share of it that the trial step has which finds its direction. In two
# dimensions a step of one standard deviation leaves most clusters, in a hundred hardly any.
# A network with a z for each time step could spend all of a long one on a few steps.
RADIUS_BY_FEATURE = 0.3
MAX_RADIUS = 1.5
MAX_RADIUS_BY_STEP = 1.0
TRIAL_SHARE = 0.1

# What encoder and decoder compute in while they are trained.
PRECISIONS = ("float32", "bfloat16")

# The decoder's weights that read the classes.
INPUT_LAYER = "decoder.input_layer.weight"


def unit_rows(x):
    """Divide each row by its length, but leave rows of zeros.

    The squares of numbers that are all but zero would vanish: the largest becomes 1 first.
    """
    largest = x.abs().amax(dim=1, keepdim=True)
    return F.normalize(x / largest.clamp(min=torch.finfo(x.dtype).tiny))


class SSVAE(nn.Module):
    """Variational autoencoder with softmax heads pi on its topmost encoder layer.

    Rows come in as ``(n, n_features)`` in their own units; the module standardises them
    where its likelihood asks for that, and gives log-probabilities of the rows as they
    came. There is one pi head for each factor that has labels. A recurrent network has z
    and the heads at each time step. Tensors of z then have the axis ``n_steps`` after the
    first; a row has one pi, the geometric mean of its steps' (`class_logits`).

    Parameters
    ----------
    network : str or tuple
        Key of `NETWORKS`, or a pair of callables that keeps their contract.
    input_shape : tuple of int
        Shape of one row as the network sees it.
    hidden_layer_sizes : tuple of int
        Widths of the encoder's hidden layers, bottom to top.
    latent_dim : int
        Size of z.
    likelihood : str
        Key of `LIKELIHOODS`.
    prior : str
        Key of `PRIORS`.
    decoder_label : {"predicted", "observed"} or None
        What the decoder reads beside z in training: pi, the label of rows that have one,
        or no class.
    n_classes : dict of str to int
        Classes of each pi head by its name; empty for a model without one (the paper's
        EU).
    n_generative_classes : dict of str to int
        How many classes of each head, the first ones, the decoder or the prior reads.
    has_decoder : bool
        False for encoder and pi heads alone (the paper's ES).
    """

    def __init__(
        self,
        *,
        network,
        input_shape,
        hidden_layer_sizes,
        latent_dim,
        likelihood,
        prior,
        decoder_label,
        n_classes,
        n_generative_classes,
        has_decoder,
    ):
        super().__init__()
        encoder_class, decoder_class = NETWORKS.get(network, network)
        self.input_shape = tuple(input_shape)
        self.n_features = math.prod(input_shape)
        self.decoder_label = decoder_label
        self.n_decoder_classes = (
            n_generative_classes if decoder_label else dict.fromkeys(n_classes, 0)
        )

        self.register_buffer("shift", torch.zeros(self.n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.n_features, dtype=torch.float64))
        self.encoder = encoder_class(self.input_shape, hidden_layer_sizes)
        n_top = self.encoder.n_out
        n_steps = getattr(self.encoder, "n_steps", None)
        self.latent_shape = (latent_dim,) if n_steps is None else (n_steps, latent_dim)
        self.pi = nn.ModuleDict({name: nn.Linear(n_top, n) for name, n in n_classes.items()})
        self.likelihood = LIKELIHOODS[likelihood](self.n_features)
        self.mean = self.log_var = self.decoder = self.prior = None
        if has_decoder:
            self.mean = nn.Linear(n_top, latent_dim)
            self.log_var = nn.Linear(n_top, latent_dim)
            self.decoder = decoder_class(
                sum(self.n_decoder_classes.values()) + latent_dim,
                self.input_shape,
                self.likelihood.n_params,
                hidden_layer_sizes,
            )
            # A model without classes has nothing to be conditioned on.
            prior = prior if any(n_generative_classes.values()) else "normal"
            self.prior = PRIORS[prior](latent_dim, n_generative_classes)

        self.precision = "float32"  # the net sets it
        self.dropouts = [layer for layer in self.modules() if isinstance(layer, Dropout)]
        self.batch_norms = [
            layer
            for layer in self.modules()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        ]

    def standardize(self, x):
        """Bring rows to the units of training and to the dtype of the weights.

        The difference is taken in the rows' own precision first: a time stamp in float64
        would lose its digits in float32.
        """
        if self.likelihood.standardizes:
            x = (x - self.shift) / self.scale
        return x.to(self.dtype)

    @property
    def sees_images(self):
        """Whether a row is (height, width) or (height, width, channels) to the network."""
        return len(self.input_shape) in (2, 3) and len(self.latent_shape) == 1

    @property
    def dtype(self):
        """Dtype of the weights and of what the heads compute."""
        head = self.mean if self.mean is not None else next(iter(self.pi.values()))
        return head.weight.dtype

    def class_logits(self, top):
        r"""Apply the pi heads to the encoder's topmost features.

        A series has one class. Its probabilities are the geometric mean of the steps',

        .. math:: \pi_k \propto \Big( \prod_{t=1}^{T} \pi_{t,k} \Big)^{1/T},

        so that a step that leaves the class open, as the first ones that have seen little,
        does not change which class is ahead.

        Parameters
        ----------
        top : Tensor of shape (n, [n_steps,] n_out)
            What the encoder computes.

        Returns
        -------
        logits : dict of Tensor of shape (n, n_classes)
            Unnormalised log-probabilities of each head.
        """
        by_step = {name: head(top) for name, head in self.pi.items()}
        return {
            name: logits.mean(dim=1) if logits.ndim == 3 else logits
            for name, logits in by_step.items()
        }

    def _in_precision(self, part, x):
        """Apply encoder or decoder, in training with its layers at `precision`.

        All else, the heads and the loss, is computed with the weights' own numbers.
        """
        if not self.training or self.precision == "float32":
            return part(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return part(x).to(x.dtype)

    def _top(self, x):
        """Compute the encoder's topmost features for standardised rows."""
        return self._in_precision(self.encoder, x.unflatten(1, self.input_shape))

    def encode(self, x):
        """Compute the heads for standardised rows.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Standardised rows.

        Returns
        -------
        logits : dict of Tensor of shape (n, n_classes)
            Unnormalised log-probabilities of each pi head.
        mean, log_var : Tensor of shape (n, [n_steps,] latent_dim) or None
            Parameters of q(z|x); None without a decoder.
        """
        top = self._top(x)
        logits = self.class_logits(top)
        if self.decoder is None:
            return logits, None, None
        return logits, self.mean(top), self.log_var(top).clamp(max=MAX_LOG_VAR)

    def divergence_of_pi(self, log_pi, x):
        """Divergence KL(pi || pi(x)) of each row, the mean over the heads.

        Parameters
        ----------
        log_pi : list of Tensor of shape (n, n_classes)
            Logarithm of the class probabilities to compare with, of each head.
        x : Tensor of shape (n, n_features)
            Standardised rows.

        Returns
        -------
        kl : Tensor of shape (n,)
            In nats, not negative.
        """
        top = self._top(x)
        divergences = []
        for logits, target in zip(self.class_logits(top).values(), log_pi):
            log_probs = torch.log_softmax(logits, dim=1)
            kl = F.kl_div(log_probs, target, reduction="none", log_target=True)
            divergences.append(kl.sum(dim=1))
        return torch.stack(divergences).mean(dim=0)

    @property
    def adversarial_radius(self):
        """Distance of the adversary from its row, in the units of the encoder."""
        furthest = MAX_RADIUS if len(self.latent_shape) == 1 else MAX_RADIUS_BY_STEP
        radius = min(furthest, RADIUS_BY_FEATURE * math.sqrt(self.n_features))
        return self.likelihood.spread * radius

    def inconsistency(self, x, logits, others, generator):
        r"""How much pi of a row changes where its class should not.

        .. math:: \sum_{x'} KL(\pi(x) || \pi(x')) + KL(\pi(x) || \pi(x + r)), \quad
            r = \rho \frac{g}{|g|}, \quad g = \nabla_d KL(\pi(x) || \pi(x + d))

        The sum is over rows that should have the same class, the last term is the change to
        the worst neighbor at the distance rho, `adversarial_radius` (virtual adversarial
        training, Miyato et al. 2018, arXiv:1704.03976, with one power iteration). pi(x) is
        a target here and has no gradient.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Standardised rows.
        logits : dict of Tensor of shape (n, n_classes)
            The pi heads for them.
        others : list of Tensor of shape (n, n_features)
            Standardised rows that should each have the class of the row in their place.
        generator : torch.Generator on the CPU
            Source of the trial step d.

        Returns
        -------
        inconsistency : Tensor of shape (n,)
            In nats, not negative.
        """
        log_pi = [torch.log_softmax(head.detach(), dim=1) for head in logits.values()]
        trial = F.normalize(torch.randn(x.shape, generator=generator).to(x))
        trial = (TRIAL_SHARE * self.adversarial_radius * trial).requires_grad_()
        (gradient,) = torch.autograd.grad(
            self.divergence_of_pi(log_pi, x + trial).sum(), trial
        )
        adversary = x + self.adversarial_radius * unit_rows(gradient)
        others = [*others, adversary]
        divergence = self.divergence_of_pi(
            [torch.cat(len(others) * [target]) for target in log_pi], torch.cat(others)
        )
        return divergence.reshape(len(others), -1).sum(dim=0)

    def decoder_labels(self, logits, codes=None):
        """Return what the decoder reads of the classes.

        Parameters
        ----------
        logits : dict of Tensor of shape (n, n_classes)
            The pi heads.
        codes : Tensor of int64 of shape (n, n_heads), default=None
            Classes to read in place of pi, for rows that have one.

        Returns
        -------
        labels : Tensor of shape (n, n_decoder_classes) or None
            pi, or the one-hot label, of all heads side by side; None if the decoder reads
            no class.
        """
        parts = []
        for column, (name, values) in enumerate(logits.items()):
            n_read = self.n_decoder_classes[name]
            if not n_read:
                continue
            labels = torch.softmax(values, dim=1)
            if codes is not None:
                labels, _ = with_labels(labels, codes[:, column])
            parts.append(labels[:, :n_read])
        return torch.cat(parts, dim=1) if parts else None

    def decode(self, labels, z):
        """Compute the likelihood's parameters from pi (+) z.

        Parameters
        ----------
        labels : Tensor of shape (n, n_decoder_classes) or None
            Class probabilities that the decoder reads, the same at all time steps.
        z : Tensor of shape (n, [n_steps,] latent_dim)
            Latent vectors.

        Returns
        -------
        params : Tensor of shape (n, n_params, n_features)
            Parameters of the likelihood, in standardised units.
        """
        if labels is not None:
            if z.ndim == 3:
                labels = labels[:, None].expand(-1, z.shape[1], -1)
            z = torch.cat([labels, z], dim=-1)
        return self._in_precision(self.decoder, z).flatten(2)

    def decode_rows(self, labels, z):
        """Decode one class and one flat latent vector for each row.

        Parameters
        ----------
        labels : Tensor of shape (n, n_decoder_classes)
            Class of each row.
        z : Tensor of shape (n, n_latent)
            Latent vectors, those of all time steps behind one another.

        Returns
        -------
        params : Tensor of shape (n, n_params, n_features)
            Parameters of the likelihood, in standardised units.
        """
        return self.decode(labels, z.unflatten(1, self.latent_shape))

    @contextlib.contextmanager
    def _drawing_from(self, generator):
        """Let the dropout layers draw from the generator.

        On another device they draw from one of its own, seeded by this one: masks from the
        CPU were measured to take three quarters of a step of the paper's convolutions.
        """
        device = self.shift.device
        if generator is not None and self.dropouts and device.type != "cpu":
            seed = torch.randint(2**62, (), generator=generator).item()
            generator = torch.Generator(device).manual_seed(seed)
        for layer in self.dropouts:
            layer.generator = generator
        try:
            yield
        finally:
            for layer in self.dropouts:
                layer.generator = None

    @contextlib.contextmanager
    def _keeping_running_averages(self):
        """Let the batch normalizations use statistics of the batch and keep their own.

        Rows that are perturbed are no part of the data that a fitted model meets.
        """
        tracking = [layer for layer in self.batch_norms if layer.track_running_stats]
        for layer in tracking:
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer in tracking:
                layer.track_running_stats = True

    def _augmented(self, x, augmentation, generator):
        """Rows in their own units as an augmentation changes them, if need be in place."""
        shape = (len(x), *self.input_shape)
        augmented = augmentation(x.reshape(shape).clone(), generator)
        if augmented.shape != shape:
            raise ValueError(
                f"augmentation turned rows of shape {shape} into {tuple(augmented.shape)}. "
                "It must return a tensor of the shape it got."
            )
        return augmented.flatten(1)

    def forward(self, x, generator=None, codes=None, perturb=False, augmentation=None):
        """Compute what the loss needs.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Rows in their own units.
        generator : torch.Generator on the CPU, default=None
            Source of the noise in z = mean + sigma * noise. Without one, z is the mean.
        codes : Tensor of int64 of shape (n, n_heads), default=None
            Labels for prior and decoder to read in place of pi, -1 where there is none.
        perturb : bool, default=False
            Whether to compute the inconsistency of pi as well; needs a generator.
        augmentation : callable, default=None
            Gives rows of the same classes for it, from a Tensor of shape
            (n, *input_shape) in the rows' own units and the generator.

        Returns
        -------
        logits : dict of Tensor of shape (n, n_classes)
            The pi heads.
        log_prob : Tensor of shape (n, n_features) or None
            Log-probability of each standardised feature.
        kl : Tensor of shape (n,) or None
            KL(q(z|x) || p(z)), or what the prior makes of it.
        inconsistency : Tensor of shape (n,) or None
            What `inconsistency` computes, None unless asked for or without heads.
        """
        with self._drawing_from(generator):
            rows, x = x, self.standardize(x)
            logits, mean, log_var = self.encode(x)
            if self.decoder is None:
                return logits, None, None, None
            z = mean
            if generator is not None:
                # Drawn on the CPU, so that a seed means the same on every device.
                noise = torch.randn(mean.shape, generator=generator).to(mean.device)
                z = mean + torch.exp(0.5 * log_var) * noise
            observed = codes if self.decoder_label == "observed" else None
            params = self.decode(self.decoder_labels(logits, observed), z)
            log_prob = self.likelihood.log_prob(params, x)
            kl = self.prior.kl_divergence(mean, log_var, logits, codes)
            if not (perturb and logits):
                return logits, log_prob, kl, None
            others = [self.likelihood.mean(params).detach()]
            if augmentation is not None:
                others.append(self.standardize(self._augmented(rows, augmentation, generator)))
            with self._keeping_running_averages():
                inconsistency = self.inconsistency(x, logits, others, generator)
            return logits, log_prob, kl, inconsistency

    def log_prob(self, x):
        """Log-probability of each feature at the posterior mean, in the rows' own units.

        Shape ``(n, n_features)``, in nats.
        """
        log_prob = self(x)[1]
        if self.likelihood.standardizes:
            log_prob = log_prob - torch.log(self.scale).to(log_prob.dtype)
        return log_prob

    def elbo(self, x, noise):
        """Evidence lower bound of each row with beta = 1, in the rows' own units.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Rows in their own units.
        noise : Tensor of shape (n_draws, [n_steps,] latent_dim)
            Standard normal draws, the same for all rows, so that the bound of a row does
            not depend on the others.

        Returns
        -------
        elbo : Tensor of shape (n, 1)
            In nats: the mean over the draws.
        """
        standardized = self.standardize(x)
        logits, mean, log_var = self.encode(standardized)
        labels = self.decoder_labels(logits)
        total = 0.0
        for draw in noise.to(mean):
            params = self.decode(labels, mean + torch.exp(0.5 * log_var) * draw)
            total = total + self.likelihood.log_prob(params, standardized).sum(dim=1)
        elbo = total / len(noise) - self.prior.kl_divergence(mean, log_var, logits)
        if self.likelihood.standardizes:
            elbo = elbo - torch.log(self.scale).sum().to(elbo.dtype)
        return elbo[:, None]

    def reconstruct(self, x, noise=None):
        """Mean of p(x | pi(x), z) in the rows' own units, z the mean of q(z|x) or a draw.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Rows in their own units.
        noise : Tensor of shape (n, [n_steps,] latent_dim), default=None
            Standard normal draws that z is drawn with.

        Returns
        -------
        reconstruction : Tensor of shape (n, n_features)
            What the decoder expects.
        """
        logits, z, log_var = self.encode(self.standardize(x))
        if noise is not None:
            z = z + torch.exp(0.5 * log_var) * noise.to(z)
        params = self.decode(self.decoder_labels(logits), z)
        return self.to_own_units(self.likelihood.mean(params))

    def to_own_units(self, x):
        """Undo `standardize`, shape (n, n_features)."""
        if not self.likelihood.standardizes:
            return x
        return x * self.scale.to(x.dtype) + self.shift.to(x.dtype)

    @torch.no_grad()
    def carry_over(self, other, class_index):
        """Take over the weights of a model that may know other classes.

        Weights that do not touch the classes are copied. Classes known to both keep their
        rows of the pi head, their columns of the decoder and their part of the prior;
        columns of new classes are zero, so that without known classes the model starts as
        the same function.

        Parameters
        ----------
        other : SSVAE
            The model to start from, equal but for its heads.
        class_index : dict of list of (int, int)
            Pairs (class here, class there) of the classes that both know, by head.
        """
        own, theirs = self.state_dict(), other.state_dict()
        for name, value in theirs.items():
            of_classes = name.startswith(("pi.", "prior.")) or name == INPUT_LAYER
            if not of_classes:
                own[name].copy_(value)
        for name, pairs in class_index.items():
            # What has a row for each class; the prior has none for known anomalies.
            parts = ("pi.{}.weight", "pi.{}.bias", "prior.means.{}", "prior.log_vars.{}")
            for key in {part.format(name) for part in parts} & own.keys() & theirs.keys():
                for here, there in pairs:
                    if here < len(own[key]) and there < len(theirs[key]):
                        own[key][here] = theirs[key][there]
        if self.decoder is None:
            return
        weight, old = self.decoder.input_layer.weight, other.decoder.input_layer.weight
        latent_dim = self.latent_shape[-1]
        weight.zero_()
        weight[:, -latent_dim:] = old[:, -latent_dim:]
        first_here, first_there = self._first_columns(), other._first_columns()
        for name, pairs in class_index.items():
            for here, there in pairs:
                read_by_both = (
                    here < self.n_decoder_classes[name]
                    and there < other.n_decoder_classes[name]
                )
                if read_by_both:
                    weight[:, first_here[name] + here] = old[:, first_there[name] + there]

    def _first_columns(self):
        """First column of the decoder's input for each head."""
        first, columns = 0, {}
        for name, n_read in self.n_decoder_classes.items():
            columns[name] = first
            first += n_read
        return columns
