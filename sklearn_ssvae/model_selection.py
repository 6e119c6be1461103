"""Splitters and scorers that know unlabeled rows."""

from abc import abstractmethod

import numpy as np
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    BaseCrossValidator,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length

from ._labels import check_labels, encode_columns, is_unlabeled, labeled_values

__all__ = [
    "SemiSupervisedKFold",
    "SemiSupervisedShuffleSplit",
    "make_semi_supervised_scorer",
]


class _LabeledRowsSplitter(BaseCrossValidator):
    """Splits the labeled rows; every training set has all unlabeled rows."""

    @abstractmethod
    def _stratified_splitter(self):
        """Make scikit-learn's splitter of the labeled rows."""

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Ignored, there for scikit-learn's interface.

        Returns
        -------
        n_splits : int
            Number of splits.
        """
        return self.n_splits

    def split(self, X, y, groups=None):
        """Generate the row numbers of each training and test set.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows; only their number matters.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels, `unlabeled` where there is none. With several factors a row is labeled
            if one of them is, and the first column is stratified by.
        groups : object
            Ignored, there for scikit-learn's interface.

        Yields
        ------
        train : ndarray of int
            All unlabeled rows and the labeled rows that are not tested, ascending.
        test : ndarray of int
            Labeled rows alone, ascending.

        Raises
        ------
        ValueError
            If no row has a label, or the labeled rows are too few to stratify.
        """
        check_consistent_length(X, y)
        y = check_labels(y)
        codes, _ = encode_columns(y, self.unlabeled)
        labeled = (codes >= 0).any(axis=1)
        rows, rest = np.flatnonzero(labeled), np.flatnonzero(~labeled)
        if not len(rows):
            raise ValueError(
                f"y has no labeled row to split: all {len(y)} values are the unlabeled "
                f"marker {self.unlabeled!r}."
            )
        splits = self._stratified_splitter().split(rows, codes[rows, 0])
        for train, test in splits:
            yield np.sort(np.concatenate([rows[train], rest])), np.sort(rows[test])


class SemiSupervisedKFold(_LabeledRowsSplitter):
    """Stratified folds of the labeled rows; unlabeled rows always train.

    Every test set holds labeled rows alone, so that any metric can score it, and every
    training set holds all unlabeled rows besides the other labeled ones.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle each class before splitting.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffle.
    unlabeled : object, default=-1
        The marker of an unlabeled row in y.

    See Also
    --------
    SemiSupervisedShuffleSplit : Random splits with a chosen test size.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssvae.model_selection import SemiSupervisedKFold
    >>> y = np.array([0, 1, -1, 0, 1, -1])
    >>> for train, test in SemiSupervisedKFold(2).split(y, y):
    ...     print(train, test)
    [2 3 4 5] [0 1]
    [0 1 2 5] [3 4]
    """

    def __init__(self, n_splits=5, *, shuffle=False, random_state=None, unlabeled=-1):
        # It checks them, as at this point and no later scikit-learn does.
        StratifiedKFold(n_splits, shuffle=shuffle, random_state=random_state)
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.unlabeled = unlabeled

    def _stratified_splitter(self):
        # Some meta-estimators set random_state later, whether there is a shuffle or not.
        random_state = self.random_state if self.shuffle else None
        return StratifiedKFold(self.n_splits, shuffle=self.shuffle, random_state=random_state)


class SemiSupervisedShuffleSplit(_LabeledRowsSplitter):
    """Stratified random splits of the labeled rows; unlabeled rows always train.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits.
    test_size, train_size : float, int or None, default=None
        Share (float) or number (int) of the labeled rows; as in scikit-learn's
        ``StratifiedShuffleSplit``, a tenth is tested if neither is given.
    random_state : int, RandomState instance or None, default=None
        Seed of the splits.
    unlabeled : object, default=-1
        The marker of an unlabeled row in y.

    See Also
    --------
    SemiSupervisedKFold : Folds that test each labeled row once.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssvae.model_selection import SemiSupervisedShuffleSplit
    >>> y = np.array([0, 1, -1, 0, 1, -1])
    >>> splitter = SemiSupervisedShuffleSplit(3, test_size=2, random_state=0)
    >>> [sorted(y[test].tolist()) for train, test in splitter.split(y, y)]
    [[0, 1], [0, 1], [0, 1]]
    """

    def __init__(
        self,
        n_splits=10,
        *,
        test_size=None,
        train_size=None,
        random_state=None,
        unlabeled=-1,
    ):
        self.n_splits = n_splits
        self.test_size = test_size
        self.train_size = train_size
        self.random_state = random_state
        self.unlabeled = unlabeled

    def _stratified_splitter(self):
        return StratifiedShuffleSplit(
            self.n_splits,
            test_size=self.test_size,
            train_size=self.train_size,
            random_state=self.random_state,
        )


class _LabeledRowsScorer:
    """A scorer that sees the labeled rows of a test set alone."""

    def __init__(self, scorer, unlabeled):
        self.scorer = scorer
        self.unlabeled = unlabeled

    def __repr__(self):
        return f"make_semi_supervised_scorer({self.scorer!r}, unlabeled={self.unlabeled!r})"

    @available_if(lambda self: hasattr(self.scorer, "get_metadata_routing"))
    def get_metadata_routing(self):
        """Return the metadata that the scorer inside asks for."""
        return self.scorer.get_metadata_routing()

    def __call__(self, estimator, X, y, sample_weight=None):
        y = check_labels(y)
        if y.ndim == 2:
            raise ValueError(
                f"This scorer scores one factor, but y has {y.shape[1]} columns. With "
                "SemiSupervisedKFold the estimator's own score counts the labels that are "
                "known."
            )
        mask = is_unlabeled(y, self.unlabeled)
        if mask.all():
            raise ValueError(
                "The test set has no labeled row to score on. Split with "
                "SemiSupervisedKFold, which puts labeled rows into every fold."
            )
        rows = np.flatnonzero(~mask)
        weights = {}
        if sample_weight is not None:
            weights["sample_weight"] = _safe_indexing(sample_weight, rows)
        X_labeled = _safe_indexing(X, rows)
        return self.scorer(estimator, X_labeled, labeled_values(y, mask), **weights)


def make_semi_supervised_scorer(scoring, unlabeled=-1):
    """Make a scorer that leaves out the unlabeled rows of a test set.

    With it ``cross_val_score`` and ``GridSearchCV`` report the truth for any metric and
    any splitter. (With `SemiSupervisedKFold` test sets have no unlabeled rows, and plain
    scorers do.)

    Parameters
    ----------
    scoring : str or callable
        A scikit-learn scorer, such as ``"f1_macro"``, or the name of one. Weights that it
        asks for with ``set_score_request(sample_weight=True)`` are routed to it.
    unlabeled : object, default=-1
        The marker of an unlabeled row in y.

    Returns
    -------
    scorer : callable
        Maps ``(estimator, X, y)``, and `sample_weight` if there is one, to the score of the
        labeled rows, with the direction of `scoring`.

    Raises
    ------
    ValueError
        If `scoring` is None or no scorer has that name.

    Examples
    --------
    >>> from sklearn_ssvae.model_selection import make_semi_supervised_scorer
    >>> scorer = make_semi_supervised_scorer("f1_macro")
    """
    if scoring is None:
        raise ValueError(
            'scoring must be a scorer or the name of one, such as "f1_macro". Without any, '
            "scoring=None of cross_val_score, the classifiers' own score counts labeled rows "
            "alone."
        )
    return _LabeledRowsScorer(get_scorer(scoring), unlabeled)
