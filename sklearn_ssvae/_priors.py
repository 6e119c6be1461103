"""The prior of the latent z: its divergence from the encoder's q(z|x), and draws from it."""

import torch


class StandardNormal:
    """The prior p(z) = N(0, I)."""

    def kl_divergence(self, mean, log_var):
        r"""Divergence KL(q(z|x) || p(z)) of each row, in nats.

        .. math:: \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - \log \sigma_j^2 - 1)

        Parameters
        ----------
        mean, log_var : Tensor of shape (n, [n_steps,] latent_dim)
            Mean and log-variance of q(z|x).

        Returns
        -------
        kl : Tensor of shape (n,)
            Not negative; 0 where q(z|x) is the prior.
        """
        return 0.5 * (mean**2 + log_var.exp() - log_var - 1).flatten(1).sum(dim=1)

    def sample(self, n_samples, latent_dim, generator=None):
        """Draw z, float64 Tensor of shape (n_samples, latent_dim)."""
        return torch.randn(n_samples, latent_dim, generator=generator, dtype=torch.float64)
