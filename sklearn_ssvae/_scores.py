"""Anomaly scores: what one pass over the rows gives, calibration, and how feedback acts.

The score "surprise" of a row is the sum of up to four terms, each on its own evidence:

- the error of its reconstruction: of an image, given how hard the image is; of any other
  row the negative ELBO,
- the distance to its nearest neighbors among normal rows, in the encoder's hidden features;
  of a table's row, or that from the bulk of those rows, whichever surprises more,
- the doubt of pi about its kind, where kinds were learned,
- what pi has to say for a known anomaly, where such were learned.

Each of the first three is brought to the scale of a surprise ``-log p`` with p the share of
normal rows that have at least as large a value; the last one is in nats as it is.
"""

import copy

import numpy as np
import torch
from torch import nn

# The classes of the pi head that learns from feedback, and how many of them, the first
# ones, are normal rows.
FEEDBACK_CLASSES = np.array(["none", "false_positive", "false_negative"])
FALSE_POSITIVE, FALSE_NEGATIVE = 1, 2
N_NORMAL_FEEDBACK = 2

# Keeps the adjusted score of a row far outside the training data finite.
MAX_LOG_FACTOR = 20.0

# Below this a value counts as zero: keeps logarithms finite.
TINY = 1e-12

# The bulk of the rows: which share of them it has, how often that is chosen anew, and the
# part of the mean variance that is added to each direction's, or those without any would
# decide alone.
BULK = 0.9
N_CONCENTRATIONS = 10
RIDGE = 0.03

# A row is its own neighbor up to this share of its length: stored in float32 it is at 1e-7.
OWN_DISTANCE = 1e-5

# A term that varies less than this among normal rows, by a percent or a hundredth of a
# nat, would make a surprise of everything.
MIN_SPREAD = 0.01


def log_prob(module, x):
    """Log-probability of each row, Tensor of shape (n, 1)."""
    return module.log_prob(x).sum(dim=1, keepdim=True)


def elbo(module, x):
    """ELBO of each row with its expectation taken at the posterior mean, shape (n, 1)."""
    return module.elbo(x, x.new_zeros(1, *module.latent_shape))


# Terms of the surprise


class _KeptReLUs(nn.Module):
    """Layers in a row that keep what comes out of each ReLU."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        self.kept = []

    def forward(self, x):
        """Run the layers."""
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                self.kept.append(x)
        return x


class _WatchedEncoder(nn.Module):
    """An encoder that keeps the activations of its pass."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.layers = None
        layers = getattr(encoder, "layers", None)
        if isinstance(layers, nn.Sequential):
            self.layers = _KeptReLUs(layers)
            self.encoder = _with_part(encoder, "layers", self.layers)

    def forward(self, x):
        """Run the encoder."""
        self.top = self.encoder(x)
        return self.top

    @property
    def hidden(self):
        """Hidden features by layer; the topmost alone in a network of another make."""
        return (self.layers and self.layers.kept) or [self.top]


def _with_part(module, name, part):
    """Copy a module with another part, sharing all weights.

    In place of a hook: other threads may be in a pass of the module itself.
    """
    module = copy.copy(module)
    module._modules = {**module._modules, name: part}
    return module


def _between_length_and_direction(h):
    """Divide vectors by the square root of their length.

    A thick and a thin stroke have one direction and two lengths: distances of the vectors
    themselves see little but thickness there, those of directions alone nothing of how
    far out a row of a table lies.
    """
    if h.ndim > 2:  # over time, or height and width
        h = h.mean(dim=1 if h.ndim == 3 else (2, 3))
    return h / h.norm(dim=1, keepdim=True).clamp(min=TINY).sqrt()


def _hardness(x):
    """Logarithms of an image's contrast and of its variation along height and width.

    Many strokes and edges cost a large error however normal they are. Shape ``(n, 2)``.
    """
    centered = x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True)
    contrast = centered.square().sum(dim=1)
    variation = sum(x.diff(dim=axis).abs().flatten(1).sum(dim=1) for axis in (1, 2))
    return torch.log(torch.stack([contrast, variation], dim=1) + TINY)


def _doubt(logits, heads):
    """Logarithm of ``-log max pi`` among the normal kinds, summed over the heads."""
    doubt = 0.0
    for name, (n_normal, _) in heads.items():
        log_pi = torch.log_softmax(logits[name][:, :n_normal], dim=1)
        doubt = doubt - log_pi.amax(dim=1, keepdim=True)
    return torch.log(doubt + TINY)


def _evidence(logits, heads):
    """Logarithm of the odds of a known anomaly by pi, summed over the heads that know some."""
    odds = [
        logits[name][:, n_normal:].logsumexp(dim=1)
        - logits[name][:, :n_normal].logsumexp(dim=1)
        for name, (n_normal, n_classes) in heads.items()
        if n_classes > n_normal
    ]
    return torch.stack(odds, dim=1).logsumexp(dim=1, keepdim=True)


def terms_of(heads):
    """Whether there is doubt about kinds, and whether there is evidence for anomalies."""
    sizes = heads.values()
    return any(n > 1 for n, _ in sizes), any(k > n for n, k in sizes)


def measure(module, x, heads):
    """Measure in one pass what the terms of the surprise are made of.

    Parameters
    ----------
    module : SSVAE
        The model.
    x : Tensor of shape (n, n_features)
        Rows in their own units.
    heads : dict of str to (int, int)
        The pi heads that learned kinds or known anomalies: how many of their classes, the
        first ones, are normal, and how many there are.

    Returns
    -------
    measures : Tensor of shape (n, 3 + sum(terms_of(heads)) + n_hidden)
        Error, two measures of hardness (0 where rows are no images), doubt about kinds and
        evidence for known anomalies, if there are any, and the encoder's hidden features.
    """
    watched = _WatchedEncoder(module.encoder)
    module = _with_part(module, "encoder", watched)
    if module.sees_images:
        mean = module.standardize(module.reconstruct(x))
        x = module.standardize(x)
        error = torch.log((x - mean).square().sum(dim=1, keepdim=True) + TINY)
        parts = [error, _hardness(x.unflatten(1, module.input_shape))]
    else:
        parts = [-elbo(module, x), x.new_zeros(len(x), 2)]
    has_doubt, has_evidence = terms_of(heads)
    logits = module.class_logits(watched.top) if heads else {}
    if has_doubt:
        parts.append(_doubt(logits, heads))
    if has_evidence:
        parts.append(_evidence(logits, heads))
    return torch.cat([*parts, *map(_between_length_and_direction, watched.hidden)], dim=1)


def mean_distance(distances, lengths):
    """Mean distance to the nearest reference rows, a row itself not counted.

    Parameters
    ----------
    distances : ndarray of shape (n, k + 1)
        To the nearest reference rows, in any order.
    lengths : ndarray of shape (n,)
        Lengths of the rows' own vectors.

    Returns
    -------
    distance : ndarray of shape (n,)
        Mean over the nearest k, the row's own place among the reference rows left out.
    """
    distances = np.sort(distances, axis=1)
    if distances.shape[1] == 1:
        return distances[:, 0]
    is_own = distances[:, 0] <= OWN_DISTANCE * lengths
    return np.where(is_own, distances[:, 1:].mean(axis=1), distances[:, :-1].mean(axis=1))


def describe_bulk(features, directions):
    """Learn where the bulk of the rows lies, in some directions.

    Center and covariance are those of the nine tenths of the rows that are nearest by them,
    found in concentration steps from all rows (Rousseeuw and Van Driessen 1999). Among
    anomalies that lie together a row has near neighbors, but is far from here.

    Parameters
    ----------
    features : ndarray of shape (n, n_hidden)
        Hidden features of the reference rows.
    directions : ndarray of shape (n_directions, n_hidden)
        Orthonormal, those in which the rows vary most.

    Returns
    -------
    center : ndarray of shape (n_hidden,)
        The mean of the bulk.
    whitening : ndarray of shape (n_hidden, n_directions)
        Brings differences from it to unit variance in each of the directions.
    """
    middle = features.mean(axis=0)
    x = (features - middle) @ directions.T
    nearest = np.full(len(x), True)
    for _ in range(N_CONCENTRATIONS + 1):
        mean = x[nearest].mean(axis=0)
        centered = x[nearest] - mean
        variances, axes = np.linalg.eigh(centered.T @ centered / len(centered))
        scale = np.sqrt(variances.clip(min=0) + RIDGE * variances.mean() + TINY)
        squares = np.square((x - mean) @ (axes / scale)).sum(axis=1)
        nearest = squares <= np.quantile(squares, BULK)
    return middle + mean @ directions, directions.T @ (axes / scale)


def distance_from_bulk(features, bulk):
    """Mahalanobis distance of each row, see `describe_bulk`, shape (n,)."""
    center, whitening = bulk
    return np.linalg.norm((features - center) @ whitening, axis=1)


def _terms(measures, distances, calibration):
    error = measures[:, 0] - measures[:, 1:3] @ calibration["hardness"]
    far = np.log(distances + calibration["shortest"])
    return np.column_stack([error, far, measures[:, 3:]])


def calibrate(measures, distances, has_evidence=False):
    """Learn from normal rows the hardness of images, and each term's center and scale.

    Parameters
    ----------
    measures : ndarray of shape (n, 3 to 5)
        The first columns of `measure`, without hidden features.
    distances : ndarray of shape (n, 1 or 2)
        Mean distance of each row to its neighbors and, of tables, that from the bulk.
    has_evidence : bool, default=False
        Whether the last column is the evidence for a known anomaly.

    Returns
    -------
    calibration : dict of ndarray
        What `surprises` needs.
    """
    centered = measures - measures.mean(axis=0)
    calibration = {
        "hardness": np.linalg.lstsq(centered[:, 1:3], centered[:, 0])[0],
        # Rows that come many times are at no distance from one another.
        "shortest": 1e-3 * distances.mean(axis=0) + TINY,
    }
    terms = _terms(measures, distances, calibration)
    center, high = np.quantile(terms, [0.5, 0.9], axis=0)
    # The logistic distribution that has the same median and the same highest tenth.
    scale = np.maximum(high - center, MIN_SPREAD) / np.log(9)
    if has_evidence:
        scale[-1] = 1.0
    return {**calibration, "center": center, "scale": scale}


def surprises(measures, distances, calibration):
    r"""Bring the terms of each row to the scale of a surprise.

    .. math:: -\log p = \log(1 + e^{(term - center) / scale})

    with p the share of normal rows that have at least as large a term, if the terms follow
    a logistic distribution; beyond the highest tenth that is an exponential tail. The
    evidence for a known anomaly is a logarithm of odds and keeps its scale: how much larger
    the odds are than those of the middle row is what Bayes' rule adds.

    Parameters
    ----------
    measures, distances : ndarray
        Of the rows, as in `calibrate`.
    calibration : dict of ndarray
        Made by `calibrate`.

    Returns
    -------
    surprises : ndarray of shape (n, 2 to 4)
        Not negative, in nats: of the error, the larger of the distances', of the doubt and
        of the evidence.
    """
    terms = _terms(measures, distances, calibration)
    each = np.logaddexp(0.0, (terms - calibration["center"]) / calibration["scale"])
    error, far, of_pi = np.split(each, [1, 1 + distances.shape[1]], axis=1)
    return np.hstack([error, far.max(axis=1, keepdims=True), of_pi])


# Feedback


def log_feedback_factor(module, x):
    """Logarithm of ``(1 - p_fp) / (1 - p_fn)``, bounded, Tensor of shape (n, 1)."""
    logits = module.encode(module.standardize(x))[0]["feedback"]
    none, fp, fn = torch.log_softmax(logits, dim=1).split(1, dim=1)
    log_factor = torch.logaddexp(none, fn) - torch.logaddexp(none, fp)
    return log_factor.clamp(-MAX_LOG_FACTOR, MAX_LOG_FACTOR)


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
