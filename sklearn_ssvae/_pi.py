"""The class probabilities pi: of all time steps together, and labels in their place."""

import torch
from torch.nn import functional as F


def with_labels(pi, code):
    """Put the labels of the rows that have one in place of pi.

    Parameters
    ----------
    pi : Tensor of shape (n, [n_steps,] n_classes)
        Class probabilities.
    code : Tensor of int64 of shape (n,)
        Label of each row, -1 where it has none; it holds at all time steps.

    Returns
    -------
    pi : Tensor of shape (n, [n_steps,] n_classes)
        One-hot where there is a label.
    known : Tensor of bool of shape (n,) or (n, 1)
        Where that is; broadcasts over the time steps.
    """
    label = F.one_hot(code.clamp(min=0), pi.shape[-1]).to(pi.dtype)
    if pi.ndim == 3:
        label, code = label[:, None], code[:, None]
    known = code >= 0
    return torch.where(known[..., None], label, pi), known


def pool_over_time(logits):
    r"""Class probabilities of a row: the geometric mean of its time steps'.

    .. math:: \pi_k \propto \Big( \prod_{t=1}^{T} \pi_{t,k} \Big)^{1/T}

    A step that leaves the class open, as the first ones that have seen little of a series,
    does not change which class is ahead.

    Parameters
    ----------
    logits : Tensor of shape (n, [n_steps,] n_classes)
        Unnormalised log-probabilities of a pi head.

    Returns
    -------
    logits : Tensor of shape (n, n_classes)
        Unnormalised log-probabilities of the rows: the mean over the steps.
    """
    return logits.mean(dim=1) if logits.ndim == 3 else logits
