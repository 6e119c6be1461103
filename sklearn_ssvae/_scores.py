"""Anomaly scores: what one pass over the rows gives, and how feedback changes it."""

import numpy as np
import torch

# The classes of the pi head that learns from feedback, and how many of them, the first
# ones, are normal rows.
FEEDBACK_CLASSES = np.array(["none", "false_positive", "false_negative"])
N_NORMAL_FEEDBACK = 2


def log_prob(module, x):
    """Log-probability of each row, Tensor of shape (n, 1)."""
    return module.log_prob(x).sum(dim=1, keepdim=True)


def log_feedback_factor(module, x):
    """Logarithm of ``(1 - p_fp) / (1 - p_fn)``, Tensor of shape (n, 1)."""
    logits = module.encode(module.standardize(x))[0]["feedback"]
    none, fp, fn = module.class_log_probs(logits).split(1, dim=1)
    return torch.logaddexp(none, fn) - torch.logaddexp(none, fp)


def adjust(scores, log_factor, reference):
    r"""Scale the abnormality of each row by what feedback says of its kind.

    Section 5 of the paper multiplies an anomaly score by ``(1 - p_fp) / (1 - p_fn)``,
    which asks for a score that is not negative. A log-density may have either sign, so the
    factor acts on its distance from a reference above all of them,

    .. math:: a = \max(reference - score, 0), \qquad
        score' = reference - \frac{1 - p_{fp}}{1 - p_{fn}} a

    Rows that are less abnormal than the reference stay as they are.

    Parameters
    ----------
    scores, log_factor : ndarray of shape (n,)
        Log-probabilities, and the logarithm of the factor.
    reference : float
        Log-probability of no abnormality.

    Returns
    -------
    adjusted : ndarray of shape (n,)
        The lower, the more abnormal.
    """
    abnormality = np.maximum(reference - scores, 0.0)
    return np.maximum(scores, reference) - np.exp(log_factor) * abnormality
