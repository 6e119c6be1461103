import numpy as np
import pytest
import torch

from sklearn_ssvae._batching import BalancedBatches, Rows


def _codes(n_labeled, n_unlabeled):
    codes = np.r_[np.arange(n_labeled) % 3, np.full(n_unlabeled, -1)].astype(np.int32)
    return np.random.RandomState(0).permutation(codes)


def _batches(codes, batch_size, labeled_fraction=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return BalancedBatches(codes >= 0, batch_size, labeled_fraction, generator)


@pytest.mark.parametrize(
    ("n_labeled", "n_unlabeled", "fraction"),
    [
        (10, 90, 0.5),
        (1, 999, 0.5),
        (7, 300, 0.75),
        (75, 25, 0.8),
    ],
)
def test_an_epoch_passes_one_pool_once_and_repeats_the_other(n_labeled, n_unlabeled, fraction):
    codes = _codes(n_labeled, n_unlabeled)
    batches = _batches(codes, 16, fraction)
    rows = list(batches)
    assert len(rows) == len(batches)
    seen = np.bincount(np.concatenate(rows), minlength=len(codes))
    per_pool = {True: seen[codes >= 0], False: seen[codes < 0]}
    n_batch_labeled = round(16 * fraction)
    steps = {
        True: -(-n_labeled // n_batch_labeled),
        False: -(-n_unlabeled // (16 - n_batch_labeled)),
    }
    larger = steps[True] >= steps[False]
    assert (per_pool[larger] == 1).all()
    # Repeated passes are complete but for the last.
    assert np.ptp(per_pool[not larger]) <= 1
    assert per_pool[not larger].min() >= 1


@pytest.mark.parametrize("n_labeled", [10, 50, 75, 90, 99])
@pytest.mark.parametrize("batch_size", [1, 16, 33])
def test_where_labels_are_not_rare_every_row_passes_once(n_labeled, batch_size):
    """In its natural share: each batch has its part of both pools, to one row."""
    codes = _codes(n_labeled, 100 - n_labeled)
    batches = _batches(codes, batch_size, 0.1)
    rows = list(batches)
    assert len(rows) == len(batches) == -(-100 // batch_size)
    assert sorted(np.concatenate(rows)) == list(range(100))
    for batch in rows:
        assert len(batch) <= batch_size
        expected = len(batch) * n_labeled / 100
        assert abs((codes[batch] >= 0).sum() - expected) <= 1.5


@pytest.mark.parametrize(("n_labeled", "n_in_batch"), [(20, 8), (1, 8), (333, 16)])
def test_every_batch_has_its_labeled_share_and_none_exceeds_the_size(n_labeled, n_in_batch):
    """A quarter, or what the labeled rows make of all of them."""
    codes = _codes(n_labeled, 333)
    for rows in _batches(codes, 32, 0.25):
        assert abs((codes[rows] >= 0).sum() - n_in_batch) <= (n_labeled == 333)
        assert len(rows) <= 32


@pytest.mark.parametrize("codes", [_codes(101, 0), _codes(0, 101)])
def test_a_single_pool_makes_plain_batches_of_nearly_equal_size(codes):
    rows = list(_batches(codes, 25))
    sizes = [len(batch) for batch in rows]
    assert sum(sizes) == 101
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 25
    assert sorted(np.concatenate(rows)) == list(range(101))


def test_a_batch_larger_than_the_data_holds_all_rows_once():
    rows = list(_batches(_codes(4, 6), 1000))
    assert len(rows) == 1
    assert sorted(rows[0]) == list(range(10))


def test_the_generator_decides_the_order():
    codes = _codes(10, 50)
    first, again = list(_batches(codes, 8)), list(_batches(codes, 8))
    other = list(_batches(codes, 8, seed=1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other))


def test_two_epochs_differ():
    batches = _batches(_codes(10, 50), 8)
    assert not np.array_equal(np.concatenate(list(batches)), np.concatenate(list(batches)))


def test_rows_are_fetched_from_the_array_in_its_own_dtype():
    X = np.arange(12.0).reshape(6, 2)
    codes = np.array([[0], [-1], [1], [-1], [0], [1]], dtype=np.int32)
    rows = Rows(X, codes).subset(np.array([1, 3, 5])).subset(np.array([2, 0]))
    x, y = rows.fetch(np.array([0, 1]))
    assert x.dtype == torch.float64
    assert x.tolist() == X[[5, 1]].tolist()
    assert y.tolist() == [[1], [-1]]
    assert y.dtype == torch.int64


def test_a_row_is_labeled_if_any_factor_is_and_its_first_label_is_its_stratum():
    codes = np.array([[0, -1], [-1, 0], [-1, -1], [0, 1], [1, 0], [-1, 1]], dtype=np.int32)
    rows = Rows(np.zeros((6, 1)), codes)
    assert rows.labeled.tolist() == [True, True, False, True, True, True]
    strata = rows.strata.tolist()
    assert strata[2] == -1
    assert strata[0] == strata[3]
    assert len(set(strata)) == 5
