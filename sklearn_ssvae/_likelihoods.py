"""What the decoder's output says of a row: p(x | decoder output), feature by feature."""

import math

import torch
from torch import nn
from torch.nn import functional as F

# A standard deviation of a hundredth of what the column was divided by. Without a floor a
# column that is constant, or copied exactly, would have a density without bound.
MIN_VARIANCE = 1e-4


def _log_variance(raw):
    """Logarithm of ``MIN_VARIANCE + exp(raw)``."""
    return torch.logaddexp(raw, raw.new_tensor(math.log(MIN_VARIANCE)))


def _gaussian_log_prob(x, mean, log_var):
    return -0.5 * (math.log(2 * math.pi) + log_var + (x - mean) ** 2 * torch.exp(-log_var))


class Bernoulli(nn.Module):
    r"""Bernoulli likelihood for features in [0, 1].

    .. math:: \log p(x | l) = x l - \log(1 + e^l)

    with the decoder's output l as logit; for x strictly between 0 and 1 (grey values)
    this is the usual cross-entropy with a soft target.

    Shape of the parameters: ``(n, 1, n_features)``; of every result ``(n, n_features)``.
    """

    n_params = 1
    standardizes = False
    # What counts as a standard deviation: an image's adversary is best at a distance of 1.
    spread = 2 / 3

    def __init__(self, n_features):
        super().__init__()

    def log_prob(self, params, x):
        """Log-probability of each feature, in nats."""
        return x * params[:, 0] - F.softplus(params[:, 0])

    def mean(self, params):
        """Return the expected value of each feature, in [0, 1]."""
        return torch.sigmoid(params[:, 0])

    def sample(self, params, generator=None):
        """Draw each feature, 0 or 1."""
        return torch.bernoulli(self.mean(params), generator=generator)


class Gaussian(nn.Module):
    r"""Gaussian likelihood with one learned variance per feature.

    .. math:: \log p(x | m) = -\tfrac12 (\log 2 \pi + \log v + (x - m)^2 / v)

    with the decoder's output m as mean and v a parameter of the model.

    Shape of the parameters: ``(n, 1, n_features)``; of every result ``(n, n_features)``.
    """

    n_params = 1
    standardizes = True
    spread = 1.0

    def __init__(self, n_features):
        super().__init__()
        self.raw_log_var = nn.Parameter(torch.zeros(n_features))

    def _log_var(self, params):
        return _log_variance(self.raw_log_var)

    @torch.no_grad()
    def variance(self):
        """Return the variance of each standardised feature, shape (n_features,)."""
        return torch.exp(_log_variance(self.raw_log_var))

    @torch.no_grad()
    def set_variance(self, variance, columns=None):
        """Take these variances, shape (n_features,), or the floor where it is higher.

        With a mask `columns` those of the others stay as they are.
        """
        raw = torch.log((variance - MIN_VARIANCE).clamp(min=1e-9)).to(self.raw_log_var)
        if columns is not None:
            raw = torch.where(columns.to(raw.device), raw, self.raw_log_var)
        self.raw_log_var.copy_(raw)

    def log_prob(self, params, x):
        """Log-density of each feature, in nats."""
        return _gaussian_log_prob(x, params[:, 0], self._log_var(params))

    def mean(self, params):
        """Return the expected value of each feature."""
        return params[:, 0]

    def sample(self, params, generator=None):
        """Draw each feature."""
        noise = torch.randn(params[:, 0].shape, generator=generator, dtype=params.dtype)
        return params[:, 0] + torch.exp(0.5 * self._log_var(params)) * noise


class HeteroscedasticGaussian(nn.Module):
    r"""Gaussian likelihood with a variance per row and feature, both from the decoder.

    .. math:: \log p(x | m, v) = -\tfrac12 (\log 2 \pi + \log v + (x - m)^2 / v)

    Shape of the parameters: ``(n, 2, n_features)``, mean and raw log-variance; of every
    result ``(n, n_features)``.
    """

    n_params = 2
    standardizes = True
    spread = 1.0

    def __init__(self, n_features):
        super().__init__()

    def log_prob(self, params, x):
        """Log-density of each feature, in nats."""
        return _gaussian_log_prob(x, params[:, 0], _log_variance(params[:, 1]))

    def mean(self, params):
        """Return the expected value of each feature."""
        return params[:, 0]

    def sample(self, params, generator=None):
        """Draw each feature."""
        noise = torch.randn(params[:, 0].shape, generator=generator, dtype=params.dtype)
        return params[:, 0] + torch.exp(0.5 * _log_variance(params[:, 1])) * noise


LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "heteroscedastic_gaussian": HeteroscedasticGaussian,
}
