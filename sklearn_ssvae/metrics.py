"""Scores of a learned representation."""

from numbers import Integral

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_array, check_random_state, check_scalar
from sklearn.utils.validation import check_consistent_length

__all__ = ["beta_vae_score"]


class _Groups:
    """The rows of each value of one factor, to draw partners from."""

    def __init__(self, column, number):
        values, self.group, self.size = np.unique(
            column, return_inverse=True, return_counts=True
        )
        if len(values) < 2:
            raise ValueError(
                f"Factor {number} has the value {column[0]!r} in every row; each factor "
                "needs at least 2 values."
            )
        if self.size.min() < 2:
            raise ValueError(
                f"Factor {number} has the value {values[self.size.argmin()]!r} in one row "
                "alone; a pair needs two rows that share it."
            )
        # The rows sorted by value: each group is a run from `start` in `rows`.
        self.rows = np.argsort(self.group, kind="stable")
        self.start = np.cumsum(self.size) - self.size
        self.place = np.empty_like(self.rows)
        self.place[self.rows] = np.arange(len(column)) - np.repeat(self.start, self.size)

    def draw_partners(self, rows, rng):
        """Draw for each row another one of the same value, all alike probable."""
        group = self.group[rows]
        size = self.size[group]
        place = (self.place[rows] + rng.randint(1, size)) % size
        return self.rows[self.start[group] + place]


def _draw_pairs(groups, n_points, batch_size, rng):
    """Draw the factor of each point, of shape (n_points,), and its pairs of rows.

    The two arrays of rows are of shape (n_points, batch_size).
    """
    n_rows = len(groups[0].rows)
    factor = rng.randint(len(groups), size=n_points)
    first = rng.randint(n_rows, size=(n_points, batch_size))
    second = np.empty_like(first)
    for k, of_factor in enumerate(groups):
        points = factor == k
        second[points] = of_factor.draw_partners(first[points], rng)
    return factor, first, second


def _mean_differences(Z, first, second):
    """Average the absolute differences of the representations over each point's pairs.

    Shapes ``(n, latent_dim)`` and ``(n_points, batch_size)`` twice; the result is of shape
    ``(n_points, latent_dim)``.
    """
    total = np.zeros((len(first), Z.shape[1]))
    # Pair by pair: all at once would need batch_size times the memory of the result.
    for a, b in zip(first.T, second.T):
        total += np.abs(Z[a] - Z[b])
    return total / first.shape[1]


def beta_vae_score(Z, factors, *, batch_size=64, n_train=2048, n_test=2048, random_state=None):
    r"""Score how well single latent units stand for single factors of the data.

    For each point of an auxiliary classification problem a factor k and `batch_size` pairs
    of rows are drawn at random such that the two rows of a pair share the value of k, and

    .. math:: d = \frac1L \sum_{l=1}^{L} | z_{a_l} - z_{b_l} |

    is taken over the L = `batch_size` pairs. A latent unit that depends on factor k alone
    has d = 0 there. The score is the accuracy with which a logistic regression tells k from
    d on points that it was not trained on.

    Parameters
    ----------
    Z : array-like of shape (n_samples, latent_dim)
        Representation of each row, usually the means of its latent variables.
    factors : array-like of shape (n_samples, n_factors)
        The value of each generating factor of each row, numbers or strings. At least 2
        factors, each with at least 2 values, each value in at least 2 rows.
    batch_size : int, default=64
        Number of pairs that a point averages over, at least 1.
    n_train : int, default=2048
        Number of points that train the logistic regression, at least 1.
    n_test : int, default=2048
        Number of points that the accuracy is taken on, at least 1.
    random_state : int, RandomState instance or None, default=None
        Seed of the drawn factors and pairs.

    Returns
    -------
    score : float
        Accuracy in [0, 1], the higher the better; about ``1 / n_factors`` if `Z` says
        nothing of the factors.

    Raises
    ------
    ValueError
        If an array is not 2-d or not finite, the lengths differ, there are fewer than 2
        factors, a factor has one value only, a value occurs in one row only, a size is
        less than 1, or all `n_train` points drew the same factor.
    TypeError
        If a size is not an integer.

    Notes
    -----
    As in [1]_, each pair has its own value of factor k, and all other factors are free.
    The first row of a pair is drawn from all rows and the second from the other rows of
    that value, so frequent values count more often. Where the rows are a complete grid of
    the factors this is the uniform draw of all factors of [1]_, but that no row is its own
    partner. [2]_ uses batches of 64, and 2,048 points each for training and test.

    The differences are not scaled, and the logistic regression has scikit-learn's default
    penalty (C = 1). The score is thus made for representations in the units of a standard
    normal prior. Unlike scaling, this leaves unused units, whose means hardly vary, out
    of account.

    The score says nothing of factors that are not in `factors`, and it is lenient: factors
    may be mixed in a unit as long as their shares differ.

    References
    ----------
    .. [1] Higgins et al. (2017). beta-VAE: Learning Basic Visual Concepts with a
       Constrained Variational Framework. ICLR.
    .. [2] Berkhahn et al. (2019). Augmenting Variational Autoencoders with Sparse Labels:
       A Unified Framework for Unsupervised, Semi-(un)supervised, and Supervised Learning.
       arXiv:1908.03015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssvae.metrics import beta_vae_score
    >>> rng = np.random.RandomState(0)
    >>> factors = rng.randint(5, size=(1000, 2))
    >>> Z = factors - 2 + 0.1 * rng.normal(size=(1000, 2))
    >>> beta_vae_score(Z, factors, random_state=0)
    1.0
    >>> mixed = Z @ [[1, 1], [1, -1]]
    >>> beta_vae_score(mixed, factors, random_state=0) < 0.7
    True
    """
    Z = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
    factors = check_array(factors, dtype=None, input_name="factors")
    check_consistent_length(Z, factors)
    if factors.shape[1] < 2:
        raise ValueError("factors has 1 column; there is nothing to tell apart.")
    sizes = {"batch_size": batch_size, "n_train": n_train, "n_test": n_test}
    for name, size in sizes.items():
        check_scalar(size, name, Integral, min_val=1)

    rng = check_random_state(random_state)
    groups = [_Groups(column, number) for number, column in enumerate(factors.T)]
    factor, first, second = _draw_pairs(groups, n_train + n_test, batch_size, rng)
    if (factor[:n_train] == factor[0]).all():
        raise ValueError(
            f"All n_train={n_train} training points drew factor {factor[0]}; more are needed."
        )
    differences = _mean_differences(Z, first, second)
    # lbfgs needs thousands of iterations where the units of Z differ much in scale.
    classifier = LogisticRegression(solver="newton-cholesky", max_iter=1000)
    classifier.fit(differences[:n_train], factor[:n_train])
    return float(classifier.score(differences[n_train:], factor[n_train:]))
