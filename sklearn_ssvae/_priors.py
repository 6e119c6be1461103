"""The prior of the latent z: q(z|x)'s divergence from it, and the z of a class and style."""

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

    def place(self, codes, style):
        """Return z of a style, which it is itself whatever the class."""
        return style


class ClassConditional(nn.Module):
    r"""The prior p(z|y) = N(m_y, S_y) with learned means and diagonal variances.

    The class is latent where a row has no label: q(y|x) = pi(x), p(y) uniform. The
    divergence of a row is then

    .. math::

        \sum_y \pi_y KL(q(z|x) || N(m_y, S_y)) + KL(\pi || p(y)),

    and that of a labeled row has its label in place of pi. This is M2 of Kingma et al.
    (2014, arXiv:1406.5298) with the class acting on z in place of the decoder, as in
    a variational Gaussian mixture.

    With several heads, those of factors, their means add up, and so do the logarithms of
    their variances: p(z|y) = N(sum_k m_{k, y_k}, prod_k S_{k, y_k}) with q(y|x) the product
    of the heads' pi.

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
        # All as far from zero, where an untrained encoder has the rows, or else the nearest
        # one would draw them all.
        self.means = nn.ParameterDict(
            {
                name: math.sqrt(latent_dim) * F.normalize(torch.randn(n, latent_dim))
                for name, n in heads.items()
            }
        )
        self.log_vars = nn.ParameterDict(
            {name: torch.zeros(n, latent_dim) for name, n in heads.items()}
        )

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
        of_y, log_scale = 0.0, 0.0
        precision, center, spread = 1.0, 0.0, 0.0
        for column, (name, values) in enumerate(logits.items()):
            if name not in self.means:
                continue
            m, log_s = self.means[name], self.log_vars[name]
            log_pi = torch.log_softmax(values[:, : len(m)], dim=1)
            pi = log_pi.exp()
            entropy = -(pi * log_pi).sum(dim=1)
            if codes is not None:
                code = codes[:, column]
                pi, known = with_labels(pi, torch.where(code < len(m), code, -1))
                entropy = torch.where(known, 0.0, entropy)
            of_y = of_y + math.log(len(m)) - entropy
            # Moments of m under pi, each class weighed by its precision.
            p = torch.exp(-log_s)
            total, first, second = pi @ p, pi @ (p * m), pi @ (p * m**2)
            precision = precision * total
            center = center + first / total
            spread = spread + second / total - (first / total) ** 2
            log_scale = log_scale + pi @ log_s
        if mean.ndim == 3:
            precision, center, spread, log_scale = (
                part[:, None] for part in (precision, center, spread, log_scale)
            )
        square = (mean - center) ** 2 + spread + log_var.exp()
        of_z = 0.5 * (precision * square + log_scale - log_var - 1).flatten(1).sum(dim=1)
        return of_z + of_y

    def place(self, codes, style):
        """Turn a style, standard normal where it is drawn, into z of p(z|y).

        Parameters
        ----------
        codes : Tensor of int64 of shape (n, n_heads)
            Component of each row in each head that has components.
        style : Tensor of float64 of shape (n, [n_steps,] latent_dim)
            Difference from the mean of p(z|y) in its standard deviations.

        Returns
        -------
        z : Tensor of float64 of shape (n, [n_steps,] latent_dim)
            Latent vectors.
        """
        mean, log_var = (
            sum(of_head.double()[code] for of_head, code in zip(part.values(), codes.T))
            for part in (self.means, self.log_vars)
        )
        scale = torch.exp(0.5 * log_var)
        if style.ndim == 3:
            mean, scale = mean[:, None], scale[:, None]
        return mean + scale * style


PRIORS = {"normal": StandardNormal, "class_conditional": ClassConditional}
