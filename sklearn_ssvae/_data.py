"""What a fit learns of the rows before it trains, block by block."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu
from sklearn.decomposition import PCA
from sklearn.metrics import cohen_kappa_score
from sklearn.neighbors import NearestNeighbors, kneighbors_graph
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

# Elements of the data that one block of a pass over them holds.
BLOCK_ELEMENTS = 2**20

# "auto" takes the Bernoulli likelihood where at least this share of values is 0 or 1.
BERNOULLI_SHARE = 0.1

# Columns have a unit in common if the root mean square of their standard deviations is at
# most so many times the median: 1 to 1.4 in images, series and spectra, 4 and more in tables
# of unlike columns.
ONE_UNIT = 2.0

# Of few columns the median may be a large one: none may vary so many times as another.
FEW_COLUMNS = 12
ONE_UNIT_OF_FEW = 10.0

# Whether labels follow neighbors is asked in the space of so many principal components, of
# the rows of one block or so many, and of so many labels at least beside those of the most
# frequent class; so many labels are read at most. The answer is yes from so many standard
# errors above chance.
N_PCA_COMPONENTS = 5
MIN_PCA_ROWS = 200
MIN_OTHER_LABELS = 25
MAX_NEIGHBOR_LABELS = 1000
NEIGHBOR_STANDARD_ERRORS = 2.0

# The surroundings of labels are seen in the space of so many principal components; the
# nearest unlabeled row is sought among so many. Labels spread, with so much weight, over a
# graph of neighbors of so many labeled rows at most and so many others.
N_NEIGHBOR_COMPONENTS = 20
MAX_UNLABELED = 50_000
SPREADING = 0.9
N_NEIGHBORS = 5
MAX_SPREAD_LABELS = 500
MAX_SPREAD_ROWS = 1500

# So many shares stand for all between those of the labels and those of the rows; odd, since
# the middle one is named.
N_SHARES = 11

NOT_BERNOULLI = (
    "X has values outside [0, 1], which the Bernoulli likelihood cannot have drawn. Scale "
    "the columns to [0, 1] (MinMaxScaler(clip=True), or divide images by 255), or pass "
    'likelihood="gaussian".'
)


def blocks(X, n_rows=None):
    """Slices of the rows, or of so many of them, that bound the memory of a pass."""
    n_rows = len(X) if n_rows is None else n_rows
    return gen_batches(n_rows, max(BLOCK_ELEMENTS // X.shape[1], 1))


def at_most(rows, n_rows):
    """Take every so many-th of some rows, so that there are at most n_rows."""
    return rows[:: max(1, -(-len(rows) // n_rows))]


def inside_unit_interval(block):
    """Whether all values of a block lie in [0, 1]."""
    return bool(block.min() >= 0 and block.max() <= 1)


def scale_in_common(scale, varies):
    """Replace the scales of columns that have a unit in common by one for all.

    Parameters
    ----------
    scale : ndarray of shape (n_features,)
        Standard deviations.
    varies : ndarray of bool of shape (n_features,)
        Which columns are not constant.

    Returns
    -------
    scale : ndarray of shape (n_features,)
        Their root mean square in each place, or the same again if units differ.
    """
    if not varies.any():
        return scale
    of_columns = scale[varies]
    rms = np.sqrt(np.mean(of_columns**2))
    one_unit = rms <= ONE_UNIT * np.median(of_columns)
    if len(of_columns) <= FEW_COLUMNS:
        one_unit &= of_columns.max() <= ONE_UNIT_OF_FEW * of_columns.min()
    return np.full_like(scale, rms) if one_unit else scale


def data_statistics(X, likelihood, *, one_unit=True):
    """Choose the likelihood and compute the means and the scales of the columns.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows, read block by block.
    likelihood : str
        "bernoulli", "auto" or another.
    one_unit : bool, default=True
        Whether columns that seem to have a unit in common get one scale.

    Returns
    -------
    likelihood : str
        "auto" replaced by "bernoulli" or "gaussian".
    shift, scale : ndarray of float64 of shape (n_features,)
        Column means, and standard deviations, 1 for a constant column, or one scale for all.

    Raises
    ------
    ValueError
        If the variance of a column overflows, or X has values that the Bernoulli
        likelihood cannot draw.
    """
    scaler = StandardScaler()
    inside, n_extreme = True, 0
    for rows in blocks(X):
        block = X[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            scaler.partial_fit(block)
        inside = inside and inside_unit_interval(block)
        if inside:
            n_extreme += np.count_nonzero(block == 0) + np.count_nonzero(block == 1)
    if not np.isfinite(scaler.var_).all():
        raise ValueError(
            "X has columns of numbers so large that their variance overflows. Divide them, "
            "for example by the largest."
        )
    if likelihood == "bernoulli" and not inside:
        raise ValueError(NOT_BERNOULLI)
    if likelihood == "auto":
        bernoulli = inside and n_extreme >= BERNOULLI_SHARE * X.size
        likelihood = "bernoulli" if bernoulli else "gaussian"
    # The scaler's own test of what is constant: it gives the scale 1 to such columns.
    varies = scaler.scale_ == np.sqrt(scaler.var_)
    scale = scale_in_common(scaler.scale_, varies) if one_unit else scaler.scale_
    return likelihood, scaler.mean_, scale


def _principal_components(X, n_components):
    """Return a function that maps rows to the directions in which those of X vary most."""
    n_rows = max(BLOCK_ELEMENTS // X.shape[1], MIN_PCA_ROWS)
    some = at_most(X, n_rows).astype(float)
    _, shift, scale = data_statistics(some, "gaussian")
    # Exact: among directions of like variance the randomized solver is at a loss.
    solver = "covariance_eigh" if some.shape[0] > some.shape[1] else "full"
    pca = PCA(min(n_components, *some.shape), svd_solver=solver)
    with np.errstate(invalid="ignore"):  # rows that are all equal have no variance to share
        pca.fit((some - shift) / scale)
    return lambda rows: pca.transform((rows - shift) / scale)


def _project_rows(project, X, rows):
    """Project some of the rows, block by block."""
    return np.concatenate([project(X[rows[block]]) for block in blocks(X, len(rows))])


def labels_follow_neighbors(X, codes):
    """Whether the labels show that neighbors have the same class, as in clusters they do.

    Neighbors are those in the directions in which the rows vary most. Counts the labeled
    rows whose nearest labeled neighbor has their own class; if neighborhood meant nothing,
    a pair would agree with probability sum_k p_k^2 for classes of shares p_k.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Labeled and unlabeled rows.
    codes : ndarray of int of shape (n_samples, n_heads)
        Class of each row in each head, -1 where it has no label.

    Returns
    -------
    follow : bool
        False if every head has 25 labels or more beside those of its most frequent class,
        and in none the count is two standard errors above its expectation.
    """
    labeled = [np.flatnonzero(of_head >= 0) for of_head in codes.T]
    for rows, of_head in zip(labeled, codes.T):
        counts = np.bincount(of_head[rows], minlength=1)
        if counts.sum() - counts.max() < MIN_OTHER_LABELS:
            return True
    project = _principal_components(X, N_PCA_COMPONENTS)
    for rows, of_head in zip(labeled, codes.T):
        rows = at_most(rows, MAX_NEIGHBOR_LABELS)
        labels = of_head[rows]
        index = NearestNeighbors(n_neighbors=1).fit(project(X[rows]))
        neighbor = index.kneighbors(return_distance=False)
        n_agree = np.count_nonzero(labels[neighbor[:, 0]] == labels)
        chance = np.sum((np.bincount(labels) / len(labels)) ** 2)
        error = np.sqrt(len(labels) * chance * (1 - chance))
        if n_agree - len(labels) * chance >= NEIGHBOR_STANDARD_ERRORS * error:
            return True
    return False


def surroundings_of_labels(X, codes):
    """Find the rows next to labeled and to unlabeled ones.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Labeled and unlabeled rows, at least as many of these.
    codes : ndarray of int of shape (n_samples,)
        Class of each row, -1 where it has no label.

    Returns
    -------
    labeled, nearest : ndarray of int of shape (n_labeled,)
        The labeled rows, 1,000 of them if there are more, and the unlabeled row that is
        nearest to each.
    pairs : ndarray of int of shape (2, n_pairs)
        Some unlabeled rows, 1,000 of them if there are more, above the unlabeled row that
        is nearest to each; an only one is its own.
    """
    project = _principal_components(X, N_NEIGHBOR_COMPONENTS)
    labeled = at_most(np.flatnonzero(codes >= 0), MAX_NEIGHBOR_LABELS)
    unlabeled = at_most(np.flatnonzero(codes < 0), MAX_UNLABELED)
    others = _project_rows(project, X, unlabeled)
    index = NearestNeighbors(n_neighbors=1).fit(others)
    of_labeled = _project_rows(project, X, labeled)
    nearest = index.kneighbors(of_labeled, return_distance=False)[:, 0]
    some = at_most(np.arange(len(unlabeled)), MAX_NEIGHBOR_LABELS)
    two = index.kneighbors(others[some], min(2, len(others)), return_distance=False)
    # The first is the row itself, unless others are equal to it.
    pairs = unlabeled[np.stack([some, np.where(two[:, 0] == some, two[:, -1], two[:, 0])])]
    return labeled, unlabeled[nearest], pairs


class SpreadLabels(NamedTuple):
    """What spreading the labels over the rows tells.

    Parameters
    ----------
    labels, told : ndarray of int of shape (n_told,)
        Labels whose class has another one, 500 of them if there are more, and the class
        that spreading the others gives each.
    rows, classes : ndarray of int of shape (n_spread,)
        Some unlabeled rows, 1,500 of them if there are more, and the class that spreading
        all labels gives each.
    """

    labels: np.ndarray
    told: np.ndarray
    rows: np.ndarray
    classes: np.ndarray


def spread_labels(X, codes):
    """Spread the labels over the rows, and find what labels tell of one another.

    The closed form of label spreading [1]_, ``(1 - a S)^-1 Y``, in which the share of a
    row's own label is an element of the diagonal. Of each class the mean over its labels
    counts, or else the class of the label left out would be at a disadvantage. An only
    label of a class can't be left out.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Labeled and unlabeled rows, some of each.
    codes : ndarray of int of shape (n_samples,)
        Class of each row, -1 where it has no label.

    Returns
    -------
    spread : SpreadLabels
        What the labels tell of one another, and the rows' classes.

    References
    ----------
    .. [1] D. Zhou, O. Bousquet, T. N. Lal, J. Weston, B. Schoelkopf, "Learning with Local
       and Global Consistency", 2003.
    """
    labeled = at_most(np.flatnonzero(codes >= 0), MAX_SPREAD_LABELS)
    rows = at_most(np.flatnonzero(codes < 0), MAX_SPREAD_ROWS)
    labels, n_labels = codes[labeled], len(labeled)
    project = _principal_components(X, N_NEIGHBOR_COMPONENTS)
    Z = _project_rows(project, X, np.concatenate([labeled, rows]))
    graph = kneighbors_graph(Z, min(N_NEIGHBORS, len(Z) - 1))
    graph = graph.maximum(graph.T)
    scale = sparse.diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    system = sparse.identity(len(Z)) - SPREADING * scale @ graph @ scale
    spread = splu(system.tocsc()).solve(np.eye(len(Z), n_labels))
    one_hot = np.eye(labels.max() + 1)[labels]
    n_of_class = one_hot.sum(axis=0)
    classes = (spread[n_labels:] @ one_hot / n_of_class.clip(1)).argmax(axis=1)
    np.fill_diagonal(spread, 0)
    n_others = n_of_class - one_hot
    told = (spread[:n_labels] @ one_hot / n_others.clip(1)).argmax(axis=1)
    has_others = n_others[np.arange(n_labels), labels] > 0
    return SpreadLabels(labels[has_others], told[has_others], rows, classes)


def class_shares(count, spread=None):
    r"""Shares that the classes may have among all rows.

    .. math:: p_k(v) \propto \Big( \frac{n_k + 1}{n + K} \Big)^{1 - v}
        \Big( \frac{m_k + 1}{m + K} \Big)^v, \qquad
        0 \le v \le \max(\kappa, 0) \frac{t}{t + K}

    Of n labels and of m rows that these were spread over n_k and m_k have the class k; one
    that has none may have other rows. The labels may have been drawn at random, v = 0, or
    picked, and then the rows tell the shares, as far as the others tell each of many labels
    t, and less by Cohen's kappa: with a rare class most labels are told by chance.

    Parameters
    ----------
    count : ndarray of int of shape (n_classes,)
        Labels of each class.
    spread : SpreadLabels, default=None
        What spreading the labels tells, if anything.

    Returns
    -------
    shares : ndarray of shape (n_shares, n_classes)
        By v from 0 on in even steps, or of the labels alone. Positive, rows sum to 1.
    """
    by_labels = (count + 1) / (count + 1).sum()
    if spread is None or len(np.unique(spread.labels)) < 2:
        return by_labels[None]
    n_told, n_classes = len(spread.told), len(count)
    by_rows = np.bincount(spread.classes, minlength=n_classes) + 1
    kappa = max(cohen_kappa_score(spread.labels, spread.told), 0)
    v = np.linspace(0, kappa * n_told / (n_told + n_classes), N_SHARES)[:, None]
    shares = by_labels ** (1 - v) * (by_rows / by_rows.sum()) ** v
    return shares / shares.sum(axis=1, keepdims=True)


def stratified_holdout(codes, fraction, rng):
    """Split row numbers so that the held-out part has the same share of every class.

    Parameters
    ----------
    codes : ndarray of int of shape (n_samples,)
        Class of each row, -1 where it has no label; the unlabeled rows count as a class.
    fraction : float
        Share of rows to hold out.
    rng : RandomState
        Source of the draw.

    Returns
    -------
    train, held_out : ndarray of int
        Row numbers in ascending order. Each class keeps a row in training, and at least
        one labeled row is held out if a class has two.
    """
    held_out = []
    carry = rng.uniform()
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        wanted = fraction * len(members) + carry
        n_held_out = min(int(wanted), len(members) - 1)
        carry = min(wanted - n_held_out, 1.0)
        held_out.append(rng.choice(members, n_held_out, replace=False))
    held_out = np.concatenate(held_out)
    counts = np.bincount(codes[codes >= 0], minlength=1)
    if counts.max() > 1 and not (codes[held_out] >= 0).any():
        largest = np.flatnonzero(codes == counts.argmax())
        held_out = np.append(held_out, rng.choice(largest))
    held_out = np.sort(held_out)
    mask = np.ones(len(codes), dtype=bool)
    mask[held_out] = False
    return np.flatnonzero(mask), held_out
