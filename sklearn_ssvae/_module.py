"""The model: encoder with its three heads, and the decoder that reads pi beside z."""

import math

import torch
from torch import nn

from ._likelihoods import LIKELIHOODS
from ._networks import NETWORKS
from ._priors import StandardNormal

# Keeps exp(log_var) finite for rows far outside the training data.
MAX_LOG_VAR = 20.0


class SSVAE(nn.Module):
    """Variational autoencoder with a softmax head pi on its topmost encoder layer.

    Rows come in as ``(n, n_features)`` in their own units; the module standardises them
    where its likelihood asks for that, and gives log-probabilities of the rows as they
    came.

    Parameters
    ----------
    network : str
        Key of `NETWORKS`.
    input_shape : tuple of int
        Shape of one row as the network sees it.
    hidden_layer_sizes : tuple of int
        Widths of the encoder's hidden layers, bottom to top.
    latent_dim : int
        Size of z.
    likelihood : str
        Key of `LIKELIHOODS`.
    n_classes : int
        Classes of the pi head; 0 for a model without one (the paper's EU).
    n_decoder_classes : int
        How many of the classes, the first ones, the decoder reads.
    has_decoder : bool
        False for encoder and pi head alone (the paper's ES).
    """

    def __init__(
        self,
        *,
        network,
        input_shape,
        hidden_layer_sizes,
        latent_dim,
        likelihood,
        n_classes,
        n_decoder_classes,
        has_decoder,
    ):
        super().__init__()
        encoder_class, decoder_class = NETWORKS[network]
        self.input_shape = tuple(input_shape)
        self.n_features = math.prod(input_shape)
        self.n_classes = n_classes
        self.n_decoder_classes = n_decoder_classes
        self.prior = StandardNormal()

        self.register_buffer("shift", torch.zeros(self.n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.n_features, dtype=torch.float64))
        self.encoder = encoder_class(self.input_shape, hidden_layer_sizes)
        n_top = self.encoder.n_out
        self.pi = nn.Linear(n_top, n_classes) if n_classes else None
        self.likelihood = LIKELIHOODS[likelihood](self.n_features)
        self.mean = self.log_var = self.decoder = None
        if has_decoder:
            self.mean = nn.Linear(n_top, latent_dim)
            self.log_var = nn.Linear(n_top, latent_dim)
            self.decoder = decoder_class(
                n_decoder_classes + latent_dim,
                self.input_shape,
                self.likelihood.n_params,
                hidden_layer_sizes,
            )

    def standardize(self, x):
        """Bring rows to the units of training and to the dtype of the weights.

        The difference is taken in the rows' own precision first: a time stamp in float64
        would lose its digits in float32.
        """
        if self.likelihood.standardizes:
            x = (x - self.shift) / self.scale
        return x.to(self.encoder_dtype)

    @property
    def encoder_dtype(self):
        """Dtype of the weights."""
        return next(self.encoder.parameters()).dtype

    def encode(self, x):
        """Compute the three heads for standardised rows.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Standardised rows.

        Returns
        -------
        logits : Tensor of shape (n, n_classes) or None
            Unnormalised log-probabilities of pi; None without a pi head.
        mean, log_var : Tensor of shape (n, latent_dim) or None
            Parameters of q(z|x); None without a decoder.
        """
        top = self.encoder(x.unflatten(1, self.input_shape))
        logits = None if self.pi is None else self.pi(top)
        if self.decoder is None:
            return logits, None, None
        return logits, self.mean(top), self.log_var(top).clamp(max=MAX_LOG_VAR)

    def class_probs(self, logits):
        """Return what the decoder reads of pi, shape (n, n_decoder_classes), or None."""
        if not self.n_decoder_classes:
            return None
        return torch.softmax(logits, dim=1)[:, : self.n_decoder_classes]

    def decode(self, class_probs, z):
        """Compute the likelihood's parameters from pi (+) z.

        Parameters
        ----------
        class_probs : Tensor of shape (n, n_decoder_classes) or None
            Class probabilities, None if the decoder reads none.
        z : Tensor of shape (n, latent_dim)
            Latent vectors.

        Returns
        -------
        params : Tensor of shape (n, n_params, n_features)
            Parameters of the likelihood, in standardised units.
        """
        h = z if class_probs is None else torch.cat([class_probs, z], dim=1)
        return self.decoder(h).flatten(2)

    def forward(self, x, generator=None):
        """Compute what the loss needs.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Rows in their own units.
        generator : torch.Generator on the CPU, default=None
            Source of the noise in z = mean + sigma * noise. Without one, z is the mean.

        Returns
        -------
        logits : Tensor of shape (n, n_classes) or None
            The pi head.
        log_prob : Tensor of shape (n, n_features) or None
            Log-probability of each standardised feature.
        kl : Tensor of shape (n,) or None
            KL(q(z|x) || p(z)).
        """
        x = self.standardize(x)
        logits, mean, log_var = self.encode(x)
        if self.decoder is None:
            return logits, None, None
        z = mean
        if generator is not None:
            # Drawn on the CPU, so that a seed means the same on every device.
            noise = torch.randn(mean.shape, generator=generator).to(mean.device)
            z = mean + torch.exp(0.5 * log_var) * noise
        params = self.decode(self.class_probs(logits), z)
        log_prob = self.likelihood.log_prob(params, x)
        return logits, log_prob, self.prior.kl_divergence(mean, log_var)

    def log_prob(self, x):
        """Log-probability of each feature at the posterior mean, in the rows' own units.

        Shape ``(n, n_features)``, in nats.
        """
        log_prob = self(x)[1]
        if self.likelihood.standardizes:
            log_prob = log_prob - torch.log(self.scale).to(log_prob.dtype)
        return log_prob

    def reconstruct(self, x):
        """Mean of p(x | pi(x), mean of q(z|x)), in the rows' own units."""
        logits, mean, _ = self.encode(self.standardize(x))
        params = self.decode(self.class_probs(logits), mean)
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
        rows of the pi head and their columns of the decoder; columns of new classes are
        zero, so that without known classes the model starts as the same function.

        Parameters
        ----------
        other : SSVAE
            The model to start from, equal but for its classes.
        class_index : list of (int, int)
            Pairs (class here, class there) of the classes that both know.
        """
        class_keys = {"pi.weight", "pi.bias", "decoder.input_layer.weight"}
        own, theirs = self.state_dict(), other.state_dict()
        for name, value in theirs.items():
            if name not in class_keys:
                own[name].copy_(value)
        if self.pi is not None and other.pi is not None:
            for here, there in class_index:
                self.pi.weight[here] = other.pi.weight[there]
                self.pi.bias[here] = other.pi.bias[there]
        if self.decoder is not None:
            weight, old = (
                self.decoder.input_layer.weight,
                other.decoder.input_layer.weight,
            )
            weight.zero_()
            weight[:, self.n_decoder_classes :] = old[:, other.n_decoder_classes :]
            for here, there in class_index:
                if here < self.n_decoder_classes and there < other.n_decoder_classes:
                    weight[:, here] = old[:, there]
