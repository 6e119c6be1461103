"""The prior of the latent z: its divergence from the encoder's q(z|x), and draws from it."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def with_labels(pi, code):
    """Put the labels of the rows that have one in place of pi.

    Parameters
    ----------
    pi : Tensor of shape (n, n_classes)
        Class probabilities.
    code : Tensor of int64 of shape (n,)
        Label of each row, -1 where it has none.

    Returns
    -------
    pi : Tensor of shape (n, n_classes)
        One-hot where there is a label.
    known : Tensor of bool of shape (n,)
        Where that is.
    """
    known = code >= 0
    label = F.one_hot(code.clamp(min=0), pi.shape[1]).to(pi.dtype)
    return torch.where(known[:, None], label, pi), known


class StandardNormal(nn.Module):
    """The prior p(z) = N(0, I), the same for all classes.

    Parameters
    ----------
    latent_dim : int
        Size of z.
    n_classes : dict of str to int
        Classes of each head; not used.
    """

    def __init__(self, latent_dim, n_classes):
        super().__init__()

    def kl_divergence(self, mean, log_var, logits=None, codes=None):
        r"""Divergence KL(q(z|x) || p(z)) of each row, in nats.

        .. math:: \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - \log \sigma_j^2 - 1)

        Parameters
        ----------
        mean, log_var : Tensor of shape (n, [n_steps,] latent_dim)
            Mean and log-variance of q(z|x).
        logits, codes
            Not used.

        Returns
        -------
        kl : Tensor of shape (n,)
            Not negative; 0 where q(z|x) is the prior.
        """
        return 0.5 * (mean**2 + log_var.exp() - log_var - 1).flatten(1).sum(dim=1)

    def sample(self, codes, latent_shape, generator=None):
        """Draw z, float64 Tensor of shape (n, *latent_shape); of `codes` only n matters."""
        shape = (len(codes), *latent_shape)
        return torch.randn(shape, generator=generator, dtype=torch.float64)


class ClassConditional(nn.Module):
    r"""The prior p(z|y) = N(m_y, S_y) with learned means and diagonal variances.

    The class is latent where a row has no label: q(y|x) = pi(x), p(y) uniform. The
    divergence of a row is then

    .. math::

        \sum_y \pi_y KL(q(z|x) || N(m_y, S_y)) + KL(\pi || p(y)),

    and that of a labeled row has its label in place of pi. This is M2 of Kingma et al.
    (2014, arXiv:1406.5298) with the class acting on z in place of the decoder, as in
    a variational Gaussian mixture.

    With several heads p(z|y) is the product of the heads' normals, each to the power of
    one over their number. The mean of the heads' divergences bounds the divergence from
    that product from above (Hoelder), so that the ELBO stays a bound.

    Parameters
    ----------
    latent_dim : int
        Size of z.
    n_classes : dict of str to int
        Components by head.
    """

    def __init__(self, latent_dim, n_classes):
        super().__init__()
        heads = {name: n for name, n in n_classes.items() if n}
        self.means = nn.ParameterDict(
            {name: torch.randn(n, latent_dim) for name, n in heads.items()}
        )
        self.log_vars = nn.ParameterDict(
            {name: torch.zeros(n, latent_dim) for name, n in heads.items()}
        )

    def component_divergences(self, name, mean, log_var):
        r"""Divergence KL(q(z|x) || N(m_y, S_y)) from every component of a head.

        .. math::

            \tfrac12 \sum_j \Big( \frac{(\mu_j - m_{yj})^2 + \sigma_j^2}{S_{yj}}
                - \log \frac{\sigma_j^2}{S_{yj}} - 1 \Big)

        Parameters
        ----------
        name : str
            The head.
        mean, log_var : Tensor of shape (n, [n_steps,] latent_dim)
            Mean and log-variance of q(z|x).

        Returns
        -------
        kl : Tensor of shape (n, [n_steps,] n_classes)
            Not negative.
        """
        # The square is multiplied out: matrix products in place of a tensor by class.
        m, log_s = self.means[name], self.log_vars[name]
        precision = torch.exp(-log_s)
        of_class = (m**2 * precision + log_s - 1).sum(dim=1)
        of_row = log_var.sum(dim=-1, keepdim=True)
        second = (mean**2 + log_var.exp()) @ precision.T
        return 0.5 * (second - 2 * mean @ (m * precision).T + of_class - of_row)

    def kl_divergence(self, mean, log_var, logits, codes=None):
        """Divergence of q(z, y|x) from the prior, of each row, in nats.

        Parameters
        ----------
        mean, log_var : Tensor of shape (n, [n_steps,] latent_dim)
            Mean and log-variance of q(z|x).
        logits : dict of Tensor of shape (n, n_classes)
            The pi heads. Classes beyond a head's components, known anomalies, are left out
            and the rest of pi is normalized.
        codes : Tensor of int64 of shape (n, n_heads), default=None
            Label of each row in each head, -1 where it has none.

        Returns
        -------
        kl : Tensor of shape (n,)
            Not negative. That of z is the sum over the time steps where there are several.
        """
        total = 0.0
        for column, (name, values) in enumerate(logits.items()):
            if name not in self.means:
                continue
            n_components = len(self.means[name])
            log_pi = torch.log_softmax(values[:, :n_components], dim=1)
            pi = log_pi.exp()
            entropy = -(pi * log_pi).sum(dim=1)
            if codes is not None:
                code = codes[:, column]
                pi, known = with_labels(pi, torch.where(code < n_components, code, -1))
                entropy = torch.where(known, 0.0, entropy)
            by_class = self.component_divergences(name, mean, log_var)
            if by_class.ndim == 3:
                by_class = by_class.sum(dim=1)
            of_z = (pi * by_class).sum(dim=1)
            of_y = math.log(n_components) - entropy
            total = total + of_z / len(self.means) + of_y
        return total

    def sample(self, codes, latent_shape, generator=None):
        """Draw z from p(z|y).

        Parameters
        ----------
        codes : Tensor of int64 of shape (n, n_heads)
            Component of each row in each head that has components.
        latent_shape : tuple of int
            ``([n_steps,] latent_dim)``.
        generator : torch.Generator, default=None
            Source of the draws.

        Returns
        -------
        z : Tensor of float64 of shape (n, *latent_shape)
            The draws.
        """
        precision, weighted = 0.0, 0.0
        for column, name in enumerate(self.means):
            code = codes[:, column]
            own = torch.exp(-self.log_vars[name].double()[code]) / len(self.means)
            precision = precision + own
            weighted = weighted + own * self.means[name].double()[code]
        shape = (len(codes), *latent_shape)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        mean, scale = weighted / precision, precision**-0.5
        if len(latent_shape) == 2:
            mean, scale = mean[:, None], scale[:, None]
        return mean + scale * noise


PRIORS = {"normal": StandardNormal, "class_conditional": ClassConditional}
