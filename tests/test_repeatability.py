"""One seed, one result; nothing outside the estimator changes."""

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed


def _global_states():
    name, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return torch.random.get_rng_state().tolist(), name, keys.tolist(), position


def _everything(clf, X):
    return np.hstack(
        [
            clf.predict_proba(X),
            clf.transform(X),
            clf.reconstruct(X),
            clf.score_samples(X)[:, None],
        ]
    )


def test_one_seed_gives_one_model(blobs, make_classifier):
    X, _, y = blobs
    first, again = (make_classifier().fit(X, y) for _ in range(2))
    assert np.array_equal(_everything(first, X), _everything(again, X))
    other = make_classifier(random_state=1).fit(X, y)
    assert not np.array_equal(_everything(first, X), _everything(other, X))


def test_no_seed_gives_a_new_model_each_time(blobs, make_classifier):
    X, _, y = blobs
    first, again = (make_classifier(random_state=None).fit(X, y) for _ in range(2))
    assert not np.array_equal(_everything(first, X), _everything(again, X))


def test_a_random_state_object_moves_on(blobs, make_classifier):
    X, _, y = blobs
    one, other = np.random.RandomState(0), np.random.RandomState(0)
    first = make_classifier(random_state=one).fit(X, y)
    same = make_classifier(random_state=other).fit(X, y)
    moved = make_classifier(random_state=one).fit(X, y)
    assert np.array_equal(_everything(first, X), _everything(same, X))
    assert not np.array_equal(_everything(first, X), _everything(moved, X))


@pytest.mark.parametrize("random_state", [0, None])
def test_the_global_random_states_stay_as_they_were(random_state, blobs, make_detector):
    X, _, y = blobs
    before = _global_states()
    det = make_detector(random_state=random_state, early_stopping=True).fit(X, y)
    det.set_params(early_stopping=False).partial_fit(X, y).predict(X)
    det.sample(5)
    assert _global_states() == before


def test_the_global_seed_has_no_influence(blobs, make_classifier):
    X, _, y = blobs
    first = make_classifier().fit(X, y)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        again = make_classifier().fit(X, y)
    assert np.array_equal(_everything(first, X), _everything(again, X))


def test_data_and_labels_stay_as_they_were(blobs, make_classifier):
    X, _, y = blobs
    X_before, y_before = X.copy(), y.copy()
    _everything(make_classifier().fit(X, y), X)
    assert np.array_equal(X, X_before)
    assert np.array_equal(y, y_before)


def test_read_only_data_is_enough(blobs, make_classifier):
    X, _, y = blobs
    for array in (X, y):
        array.flags.writeable = False
    _everything(make_classifier().fit(X, y), X)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 100])
def test_a_row_has_one_result_in_any_batch_order_and_repetition(size, blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(hidden_layer_sizes=(64, 32)).fit(X, y)
    whole = _everything(clf, X)
    assert np.array_equal(_everything(clf, X), whole)
    order = np.random.RandomState(0).permutation(len(X))
    parts = [_everything(clf, X[order[start : start + size]]) for start in range(0, 300, size)]
    assert np.array_equal(np.vstack(parts), whole[order])


def test_float32_rows_are_scored_as_the_same_numbers_in_float64(blobs, make_detector):
    X, *_ = blobs
    X = X.astype(np.float32)
    det = make_detector().fit(X)
    assert np.array_equal(det.score_samples(X), det.score_samples(X.astype(np.float64)))


def test_fits_in_parallel_threads_do_not_disturb_one_another(blobs, make_classifier):
    X, _, y = blobs

    def fit(seed):
        return _everything(make_classifier(random_state=seed).fit(X, y), X)

    alone = [fit(seed) for seed in range(6)]
    together = Parallel(n_jobs=3, backend="threading")(delayed(fit)(seed) for seed in range(6))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together))
