"""The objective: its terms, and their weighted sum."""

import math

import torch
from torch import nn
from torch.nn import functional as F

# Weight of the imbalance of pi, as a multiple of that of the inconsistency, and the share of
# the unlabeled rows of the data, one in so many, that a batch is taken for at most.
BALANCE = 3.0
REPEATED = 20


def masked_cross_entropy(logits, codes):
    r"""Mean cross-entropy over the labeled rows.

    .. math:: -\frac{1}{\#labeled} \sum_{i\ labeled} \log \pi_{i, y_i}

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        Unnormalised log-probabilities of pi.
    codes : Tensor of int64 of shape (n,)
        Class of each row, -1 where it has no label.

    Returns
    -------
    cross_entropy : Tensor of shape ()
        In nats; 0 if no row has a label.
    """
    total = F.cross_entropy(logits, codes, ignore_index=-1, reduction="sum")
    return total / (codes >= 0).sum().clamp(min=1)


def imbalance(logits, codes, shares, n_unlabeled=math.inf):
    r"""How far the classes of the unlabeled rows are from all shares that they may have.

    .. math:: \min_p KL(\bar\pi_p || p), \qquad
        KL(\bar\pi_p || p) = \sum_y \bar\pi_{p,y} \log \frac{\bar\pi_{p,y}}{p_y}, \qquad
        \bar\pi_p = (1 - w) p + \frac{w}{m} \sum_{i\ unlabeled} \pi_i, \qquad
        w = \frac{n^2}{n^2 + (K / 2)^2}

    n is the number m of unlabeled rows in the batch, but a twentieth of those in the data
    at most, and K that of the classes. A few rows, of a batch or of the data, have other
    shares by chance: w, near to 1 for several times as many rows as classes, keeps them from
    being spread over the classes each by itself.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        Unnormalised log-probabilities of pi.
    codes : Tensor of int64 of shape (n,)
        Class of each row, -1 where it has no label.
    shares : Tensor of shape (n_shares, n_classes)
        The shares p that the classes may have, positive.
    n_unlabeled : int, default=inf
        Number of rows without a label in the data.

    Returns
    -------
    kl : Tensor of shape ()
        In nats; 0 if all rows have a label.
    """
    pi = torch.softmax(logits, dim=1)
    unlabeled = (codes < 0).to(pi.dtype)
    shares = shares.to(pi)
    m = unlabeled.sum()
    n = m.clamp(max=n_unlabeled / REPEATED)
    weight = n**2 / (n**2 + (shares.shape[1] / 2) ** 2)
    mean = (1 - weight) * shares + weight * (unlabeled @ pi) / m.clamp(min=1)
    # Clamped for a class that has vanished from a large batch.
    return (mean * torch.log(mean.clamp(min=1e-12) / shares)).sum(dim=1).min()


class SSVAELoss(nn.Module):
    r"""The loss of Berkhahn et al. (2019), arXiv:1908.03015, to be minimised.

    .. math::

        L = -\frac{ELBO}{n_{features}} + \alpha CE
            + \min \Big( \frac{\gamma}{n_{features}}, \alpha \Big) (I + 3 B), \qquad
        ELBO = E[\log p(x | \pi, z)] - \beta KL(q(z|x) || p(z))

    The ELBO and the inconsistency I of pi (`SSVAE.inconsistency`) are averaged over the
    rows, CE over the labeled rows, and CE and the imbalance B of pi (`imbalance`) over the
    heads if there are several. Dividing by the number of features makes one `alpha` mean
    the same on 30 and on 784 columns; ``beta=1`` is the true ELBO. The paper's loss has
    neither I nor B: consistent classes alone could all be one, and the imbalance keeps
    them apart.

    Parameters
    ----------
    alpha : float
        Weight of the cross-entropy. 0 drops it, ``inf`` leaves nothing else.
    beta : float
        Weight of the KL divergence.
    consistency : float, default=0
        Weight gamma of the inconsistency and, three times as much, of the imbalance.
    class_shares : dict of str to ndarray of shape (n_shares, n_classes), default=None
        The shares that the classes of a head may have, for heads that are balanced.
    n_unlabeled : dict of str to int, default=None
        Number of rows of the data without a label in a head, for the same heads.
    n_density_classes : tuple of int or None
        Rows with a code of at least this, in any head, are known anomalies: they take part
        in the cross-entropy and the inconsistency alone. By default there are none.
    """

    def __init__(
        self,
        alpha,
        beta,
        consistency=0.0,
        class_shares=None,
        n_unlabeled=None,
        n_density_classes=None,
    ):
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.consistency = consistency
        self.class_shares = {
            name: torch.as_tensor(shares) for name, shares in (class_shares or {}).items()
        }
        self.n_unlabeled = n_unlabeled or {}
        self.n_density_classes = n_density_classes

    def _density_means(self, values, codes):
        """Means of several values over the rows that the density is fitted to."""
        if self.n_density_classes is None:
            return [value.mean() for value in values]
        bounds = torch.tensor(self.n_density_classes, device=codes.device)
        weights = (codes < bounds).all(dim=1).to(values[0].dtype)
        total = weights.sum().clamp(min=1)
        return [(weights * value).sum() / total for value in values]

    def terms(self, logits, log_prob, kl, inconsistency, codes, kl_share=1.0):
        """Compute the terms of the loss, each averaged over the batch.

        Parameters
        ----------
        logits : dict of Tensor of shape (n, n_classes)
            The pi heads' output.
        log_prob : Tensor of shape (n, n_features) or None
            Log-probability of each feature, None without a decoder.
        kl : Tensor of shape (n,) or None
            KL divergence of each row, None without a decoder.
        inconsistency : Tensor of shape (n,) or None
            Inconsistency of each row's pi; None leaves out the imbalance as well, as for
            held-out rows.
        codes : Tensor of int64 of shape (n, n_heads)
            Class of each row in each head, -1 where it has no label.
        kl_share : float, default=1.0
            Share of `beta` that counts, in [0, 1]; less than 1 while a training warms up.

        Returns
        -------
        terms : dict of Tensor of shape ()
            ``log_prob``, ``kl_divergence`` and ``inconsistency`` in nats a row,
            ``cross_entropy`` in nats a labeled row, ``imbalance`` in nats, and their
            weighted sum ``loss``. Terms that the model lacks are left out.
        """
        terms, loss = {}, 0.0
        if log_prob is not None:
            terms["log_prob"], terms["kl_divergence"] = self._density_means(
                [log_prob.sum(dim=1), kl], codes
            )
            elbo = terms["log_prob"] - kl_share * self.beta * terms["kl_divergence"]
            loss = -elbo / log_prob.shape[1]
        if logits:
            heads = [
                masked_cross_entropy(values, codes[:, column])
                for column, values in enumerate(logits.values())
            ]
            terms["cross_entropy"] = heads[0] if len(heads) == 1 else torch.stack(heads).mean()
            weight = 1.0 if math.isinf(self.alpha) else self.alpha
            loss = loss + weight * terms["cross_entropy"]
        if inconsistency is not None:
            # Or a table of few columns would be consistent rather than right.
            gamma = min(self.consistency / log_prob.shape[1], self.alpha)
            terms["inconsistency"] = inconsistency.mean()
            loss = loss + gamma * terms["inconsistency"]
            if self.class_shares:
                heads = [
                    imbalance(
                        values,
                        codes[:, column],
                        self.class_shares[name],
                        self.n_unlabeled.get(name, math.inf),
                    )
                    for column, (name, values) in enumerate(logits.items())
                    if name in self.class_shares
                ]
                terms["imbalance"] = torch.stack(heads).mean()
                loss = loss + BALANCE * gamma * terms["imbalance"]
        return {"loss": torch.as_tensor(loss), **terms}

    def forward(self, logits, log_prob, kl, inconsistency, codes):
        """Return the loss alone."""
        return self.terms(logits, log_prob, kl, inconsistency, codes)["loss"]
