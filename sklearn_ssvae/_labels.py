"""The unlabeled marker; labels to integer codes and back."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

UNLABELED_CODE = -1

# What NumPy makes of missing values among strings.
MISSING_AS_TEXT = ("nan", "None", "NaT", "<NA>")


class Head(NamedTuple):
    """The classes of one factor, and what the parts of the model do with them.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The classes in the order of their codes.
    n_generative : int
        How many of them, the first ones, the decoder or the prior reads.
    n_density : int
        Rows of these, the first ones, take part in the density.
    """

    classes: np.ndarray
    n_generative: int
    n_density: int

    @property
    def has_anomalies(self):
        """Whether rows of some of its classes are left out of the density."""
        return self.n_density < len(self.classes)


def _is_missing(value):
    """Whether one value is None, NaN, NaT or pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.generic)) and bool(value != value)


def is_unlabeled(y, unlabeled=-1):
    """Find the unlabeled rows.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels of any dtype.
    unlabeled : object, default=-1
        The marker of an unlabeled row. The missing values None, NaN, NaT and pandas' NA
        stand for one another. Among strings the marker is found as a string as well,
        since ``np.array(["a", -1])`` and a column of a CSV file hold ``"-1"``; so are
        missing values in a string array, which NumPy writes as ``"nan"`` or ``"None"``.

    Returns
    -------
    mask : ndarray of bool of shape (n_samples,)
        True where the row has no label.
    """
    if _is_missing(unlabeled):
        if y.dtype.kind in "fcmM":
            return np.isnan(y)
        if y.dtype.kind == "U":
            return np.isin(y, MISSING_AS_TEXT)
        if y.dtype.kind != "O":
            return np.zeros(len(y), dtype=bool)
        return np.fromiter(map(_is_missing, y), dtype=bool, count=len(y))
    if y.dtype.kind == "U":
        return y == str(unlabeled)
    if y.dtype.kind == "O":
        written = str(unlabeled)
        same = (
            value == written
            if isinstance(value, str)
            else not (_is_missing(value) or isinstance(unlabeled, str)) and value == unlabeled
            for value in y
        )
        return np.fromiter(same, dtype=bool, count=len(y))
    if isinstance(unlabeled, str):
        return np.zeros(len(y), dtype=bool)
    return y == unlabeled


def check_labels(y):
    """Bring labels to an array without touching their values.

    Shape ``(n_samples,)``, or ``(n_samples, n_outputs)`` with a column for each factor. A
    single column is flattened with a ``DataConversionWarning``, as in scikit-learn.
    """
    if hasattr(y, "astype") and not isinstance(getattr(y, "dtype", np.dtype(int)), np.dtype):
        # pandas would turn whole numbers beside missing values into floats.
        y = y.astype(object)
    if y is None or issparse(y):
        raise ValueError(
            f"y holds the labels, as an array of one dimension or two. Got {type(y).__name__}."
        )
    values = np.asarray(y)
    if values.dtype.kind == "U" and isinstance(y, (list, tuple)):
        # NumPy would write a missing value among strings as "nan".
        values = np.asarray(y, dtype=object)
    elif values.dtype.kind in "fO" and type(y).__module__.startswith("polars"):
        # It has turned whole numbers beside missing values into floats.
        rows = y.rows() if values.ndim == 2 else y.to_list()
        values = np.array(rows, dtype=object).reshape(values.shape)
    if values.ndim == 2 and values.shape[1] > 1:
        return values
    return column_or_1d(values, warn=True)


def labeled_values(y, mask):
    """Return the labels of the rows that have one, with the dtype they would have alone.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels; an object array where integers or strings stand beside the marker.
    mask : ndarray of bool of shape (n_samples,)
        True where the row has no label, see `is_unlabeled`.

    Returns
    -------
    values : ndarray of shape (n_labeled,)
        Labels of a plain dtype.

    Raises
    ------
    ValueError
        If the labels mix strings with numbers, or hold missing values that are not the
        marker, or are continuous.
    """
    values = y[~mask]
    # Among strings "None" may be a class.
    if values.dtype.kind != "U" and is_unlabeled(values, None).any():
        raise ValueError(
            "y holds missing values (None or NaN), but they are not the marker of "
            "unlabeled rows. Pass unlabeled=None if they mean 'no label', or fill them "
            "with the marker in use."
        )
    if values.dtype.kind == "f":
        assert_all_finite(values, input_name="y")
    if values.dtype.kind == "O":
        kinds = {isinstance(value, str) for value in values}
        if len(kinds) > 1:
            raise ValueError(
                "The labels in y mix strings with numbers, so they have no common order. "
                "Make all of them strings or all of them numbers."
            )
        values = np.array(values.tolist())
    check_classification_targets(values)
    return values


def check_same_kind(values, classes):
    """Raise if labels are strings and the classes are not, or the other way round."""
    for value, known in zip(values[:1].tolist(), classes[:1].tolist()):
        if isinstance(value, str) != isinstance(known, str):
            raise ValueError(
                f"The labels in y mix strings with numbers: {value!r} is in y, and {known!r} "
                "is among the classes of the model. Make all of them strings or all of them "
                "numbers."
            )


def encode_labels(y, unlabeled=-1, classes=None, grow=False):
    """Turn labels into integer codes.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels, with `unlabeled` where there is none.
    unlabeled : object, default=-1
        The marker of an unlabeled row.
    classes : ndarray of shape (n_classes,), default=None
        The known classes, in the order of their codes. By default the distinct labels in
        `y`, sorted.
    grow : bool, default=False
        Whether new labels join the known classes, all sorted anew, or are an error.

    Returns
    -------
    codes : ndarray of int32 of shape (n_samples,)
        Index into `classes`, -1 for an unlabeled row.
    classes : ndarray of shape (n_classes,)
        The classes.

    Raises
    ------
    ValueError
        If `y` holds a label that is not in `classes` and `grow` is False, or strings
        where `classes` are numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssvae._labels import encode_labels
    >>> codes, classes = encode_labels(np.array(["b", -1, "a"], dtype=object))
    >>> codes, classes
    (array([ 1, -1,  0], dtype=int32), array(['a', 'b'], dtype='<U1'))
    """
    mask = is_unlabeled(y, unlabeled)
    codes = np.full(len(y), UNLABELED_CODE, dtype=np.int32)
    if mask.all():
        return codes, np.empty(0, dtype=int) if classes is None else classes
    values = labeled_values(y, mask)
    if classes is None:
        classes, codes[~mask] = np.unique(values, return_inverse=True)
        return codes, classes
    check_same_kind(values, classes)
    if grow:
        classes = np.union1d(classes, values) if len(classes) else np.unique(values)
    unknown = np.setdiff1d(values, classes)
    if len(unknown):
        raise ValueError(
            f"y holds labels that are not among the known classes: {unknown[:5]!r} is not "
            f"in {classes!r}. Name every class in `classes` at the first call of "
            "partial_fit, or start again with fit."
        )
    order = np.argsort(classes, kind="stable")
    codes[~mask] = order[np.searchsorted(classes, values, sorter=order)]
    return codes, classes


def encode_columns(y, unlabeled=-1, classes=None, grow=False):
    """Turn labels of one or several factors into integer codes, see `encode_labels`.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Labels, with `unlabeled` where there is none.
    unlabeled, grow
        As in `encode_labels`.
    classes : list of ndarray, default=None
        The known classes of each factor.

    Returns
    -------
    codes : ndarray of int32 of shape (n_samples, n_outputs)
        Index into the classes of the column, -1 where there is no label.
    classes : list of ndarray
        The classes of each column.

    Raises
    ------
    ValueError
        As `encode_labels` does, or if the number of columns is not that of `classes`.
    """
    columns = [y] if y.ndim == 1 else list(y.T)
    if classes is not None and len(classes) != len(columns):
        raise ValueError(
            f"y has {len(columns)} columns of labels, but the classes of {len(classes)} are "
            "known. Pass one column for each factor, filled with the unlabeled marker "
            "where nothing is known."
        )
    known = [None] * len(columns) if classes is None else classes
    encoded = [
        encode_labels(column, unlabeled, of_column, grow)
        for column, of_column in zip(columns, known)
    ]
    return np.stack([codes for codes, _ in encoded], axis=1), [c for _, c in encoded]


def stack_columns(columns):
    """Put the labels of each factor side by side.

    Shape ``(n,)`` for one factor, ``(n, n_outputs)`` for several: an object array if they
    are of different kinds, since NumPy would turn numbers beside strings into strings.
    """
    if len(columns) == 1:
        return columns[0]
    if len({column.dtype.kind for column in columns}) > 1:
        columns = [column.astype(object) for column in columns]
    return np.stack(columns, axis=1)


def as_list(values):
    """Return an attribute as a list with an item for each factor; one factor's is bare."""
    return [values] if isinstance(values, np.ndarray) else values
