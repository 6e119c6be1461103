import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from sklearn_ssvae._labels import check_labels, encode_columns, encode_labels, is_unlabeled


@pytest.mark.parametrize(
    ("y", "unlabeled"),
    [
        (np.array([3, -1, 7]), -1),
        (np.array([3, 99, 7], dtype=np.uint8), 99),
        (np.array([3.0, -1.0, 7.0]), -1),
        (np.array([3.0, np.nan, 7.0]), np.nan),
        (np.array([3.0, np.nan, 7.0]), None),
        (np.array(["a", -1, "b"], dtype=object), -1),
        (np.array(["a", -1, "b"]), -1),
        (np.array(["a", "-1", "b"], dtype=object), -1),
        (pd.Series(["a", "-1", "b"]), -1),
        (["a", -1, "b"], -1),
        (["a", np.nan, "b"], np.nan),
        (["a", None, "b"], None),
        (np.array(["a", None, "b"], dtype=object), None),
        (np.array(["a", None, "b"], dtype=object), np.nan),
        (np.array(["a", np.nan, "b"], dtype=object), None),
        (np.array(["a", pd.NA, "b"], dtype=object), None),
        (np.array(["a", "?", "b"]), "?"),
        (np.array([True, None, False], dtype=object), None),
        (pd.Series([3, pd.NA, 7], dtype="Int64"), pd.NA),
        (np.array(["a", np.nan, "b"]), np.nan),
        (np.array(["a", np.nan, "b"]), None),
        (np.array(["a", None, "b"], dtype=object).astype(str), None),
        (np.array([3, None, 7], dtype=object), pd.NaT),
        (np.array([3, pd.NaT, 7], dtype=object), None),
        (pd.Series(["a", None, "b"], dtype="category"), None),
        (pd.Series(["a", None, "b"], dtype="string"), None),
        (pd.Series(pd.to_datetime(["2026-01-01", None, "2026-02-01"])), None),
    ],
)
def test_the_marker_is_found_whatever_the_dtype(y, unlabeled):
    mask = is_unlabeled(check_labels(y), unlabeled)
    assert mask.dtype == bool
    assert mask.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("y", "unlabeled"),
    [
        (np.array([3, -1, 7]), None),
        (np.array([3, -1, 7]), "?"),
        (np.array([0, -1, 7]), 1),
        (np.array(["a", "b", "c"]), -1),
        (np.array([1, 0, 7], dtype=object), "1"),
        (np.array(["None", "mild", "nan"]), -1),
    ],
)
def test_another_value_is_not_the_marker(y, unlabeled):
    assert not is_unlabeled(y, unlabeled).any()


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([30, -1, 10, 30]), [10, 30]),
        (np.array(["b", -1, "a", "b"], dtype=object), ["a", "b"]),
        (np.array([2.0, -1.0, 1.0, 2.0]), [1.0, 2.0]),
        (np.array([True, -1, False, True], dtype=object), [False, True]),
    ],
)
def test_codes_and_classes_give_the_labels_back(y, classes):
    codes, found = encode_labels(y)
    assert found.tolist() == classes
    assert codes.tolist() == [1, -1, 0, 1]
    labeled = codes >= 0
    assert found[codes[labeled]].tolist() == y[labeled].tolist()


def test_known_classes_keep_their_order():
    known = np.array(["z", "a", "m"])
    codes, classes = encode_labels(np.array(["a", "z", "m"]), classes=known)
    assert codes.tolist() == [1, 0, 2]
    assert classes is known


def test_a_label_beyond_the_known_classes_is_an_error():
    with pytest.raises(ValueError, match=r"not among the known classes: array\(\[3\]\)"):
        encode_labels(np.array([0, 3]), classes=np.array([0, 1]))


def test_strings_mixed_with_numbers_are_an_error():
    with pytest.raises(ValueError, match="mix strings with numbers"):
        encode_labels(np.array(["a", 1, -1], dtype=object))


@pytest.mark.parametrize(("known", "later"), [(["a", "b"], [0, 1]), ([0, 1], ["0", "1"])])
@pytest.mark.parametrize("grow", [False, True])
def test_strings_and_numbers_do_not_become_classes_of_one_model(known, later, grow):
    with pytest.raises(ValueError, match=r"mix strings with numbers: .* among the classes"):
        encode_labels(np.array(later), classes=np.array(known), grow=grow)


@pytest.mark.parametrize(
    "y", [pd.Series([3, None, 7], dtype="Int64"), pl.Series([3, None, 7])]
)
def test_whole_numbers_beside_missing_values_stay_whole(y):
    codes, classes = encode_labels(check_labels(y), unlabeled=None)
    assert codes.tolist() == [0, -1, 1]
    assert classes.dtype.kind == "i"


def test_whole_numbers_beside_missing_values_stay_whole_in_tables():
    y = check_labels(pl.DataFrame({"a": [3, None, 7], "b": ["x", "y", None]}))
    codes, classes = encode_columns(y, unlabeled=None)
    assert codes.tolist() == [[0, 0], [-1, 1], [1, -1]]
    assert [of_column.tolist() for of_column in classes] == [[3, 7], ["x", "y"]]


def test_missing_values_that_are_not_the_marker_are_an_error():
    with pytest.raises(ValueError, match="Pass unlabeled=None"):
        encode_labels(np.array(["a", None, -1], dtype=object))


def test_continuous_labels_are_an_error():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        encode_labels(np.array([0.5, 1.7, -1]))


def test_none_may_be_the_name_of_a_class():
    codes, classes = encode_labels(np.array(["None", "-1", "mild"]))
    assert codes.tolist() == [0, -1, 1]
    assert classes.tolist() == ["None", "mild"]


@pytest.mark.parametrize("y", [None, sparse.csr_array([[0, 1]])])
def test_labels_that_are_none_at_all_are_named(y):
    with pytest.raises(ValueError, match="y holds the labels"):
        check_labels(y)
