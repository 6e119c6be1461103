"""How sure the classifier's probabilities are."""

import pickle

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from sklearn_ssvae._classifier import shrink
from sklearn_ssvae._data import (
    SpreadLabels,
    class_shares,
    spread_labels,
    surroundings_of_labels,
)
from sklearn_ssvae._defaults import accuracy_for, shrinkage_for

# Long enough that pi is sure of all rows.
LONG = {"max_epochs": 60, "learning_rate": 0.01}


@pytest.fixture
def noise():
    """Rows that say nothing of their two classes; five labels of each."""
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(300, 4)), np.arange(300) % 2
    return X, y, np.where(np.arange(300) < 10, y, -1)


def test_probabilities_are_pi_mixed_with_the_shares_of_the_classes(blobs, make_classifier):
    X, _, y = blobs
    y = np.where((y == 2) & (np.arange(len(y)) % 3 > 0), -1, y)
    pi = make_classifier(**LONG, shrinkage=0).fit(X, y).predict_proba(X)
    clf = make_classifier(**LONG, shrinkage=0.3).fit(X, y)
    assert clf.shrinkage_ == 0.3
    shares = clf.class_prior_
    assert shares.max() > shares.min() + 0.01
    proba = clf.predict_proba(X)
    sure = pi.max(axis=1) > 0.6
    assert sure.sum() > 100
    np.testing.assert_allclose(proba[sure], 0.7 * pi[sure] + 0.3 * shares)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), proba)
    assert np.array_equal(clf.predict(X), pi.argmax(axis=1))


def test_shares_that_are_named_take_the_place_of_those_of_the_labels(blobs, make_classifier):
    X, _, y = blobs
    shares = np.array([0.5, 0.3, 0.2])
    params = {**LONG, "class_prior": shares}
    pi = make_classifier(**params, shrinkage=0).fit(X, y).predict_proba(X)
    proba = make_classifier(**params, shrinkage=0.1).fit(X, y).predict_proba(X)
    sure = pi.max(axis=1) > 0.6
    assert sure.sum() > 100
    np.testing.assert_allclose(proba[sure], 0.9 * pi[sure] + 0.1 * shares)


@pytest.mark.parametrize("shrinkage", [0.1, 0.6, 0.99])
def test_the_most_probable_class_stays_so_and_other_rows_get_all_of_it(shrinkage):
    rng = np.random.RandomState(0)
    pi = rng.dirichlet(np.full(4, 0.3), size=2000)
    shares = np.array([0.7, 0.2, 0.1, 0.0])
    with np.errstate(divide="ignore"):
        proba = np.exp(shrink(np.log(pi), shrinkage, shares))
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert np.array_equal(proba.argmax(axis=1), pi.argmax(axis=1))
    plain = (1 - shrinkage) * pi + shrinkage * shares
    lead = plain[np.arange(2000), pi.argmax(axis=1)] - np.sort(plain, axis=1)[:, -2]
    stays, other = lead > 0.001, lead < -0.001
    assert stays.sum() > 200
    assert other.any()
    np.testing.assert_allclose(proba[stays], plain[stays])
    two = np.sort(proba[other], axis=1)[:, -2:]
    np.testing.assert_allclose(two[:, 1], two[:, 0], rtol=0.01)


def test_classes_that_are_as_probable_stay_so():
    log_pi = np.log([[0.4, 0.4, 0.2]])
    np.testing.assert_allclose(shrink(log_pi, 0.5, np.array([0.1, 0.6, 0.3])), log_pi)


def test_a_rare_class_is_as_probable_as_it_is_frequent(noise, make_classifier):
    """Mixed with a uniform distribution a class of 5 % had .28."""
    X = noise[0]
    rare = np.arange(300) % 20 == 0
    y = np.where(np.arange(300) < 80, rare, -1)
    clf = make_classifier(**LONG).fit(X, y)
    assert clf.shrinkage_ > 0.03
    assert 0.02 < clf.predict_proba(X)[:, 1].mean() < 0.1


def spread_by_steps(Z, labels, left_out=()):
    """Spread the labels of the first rows step by step; return the class of each row."""
    distances = np.linalg.norm(Z[:, None] - Z, axis=2)
    np.fill_diagonal(distances, np.inf)
    linked = np.zeros(distances.shape)
    for row, near in enumerate(np.argsort(distances, axis=1)[:, :5]):
        linked[row, near] = linked[near, row] = 1
    degree = linked.sum(axis=1)
    start = np.zeros((len(Z), labels.max() + 1))
    start[np.arange(len(labels)), labels] = 1
    start[list(left_out)] = 0
    start /= np.maximum(start.sum(axis=0), 1)
    mass = start
    for _ in range(300):
        mass = 0.9 * linked @ (mass / np.sqrt(degree)[:, None])
        mass = mass / np.sqrt(degree)[:, None] + start
    return mass.argmax(axis=1)


def labels_told(Z, labels):
    """Leave out one label after the other, and spread the rest."""
    return np.array([spread_by_steps(Z, labels, [row])[row] for row in range(len(labels))])


@pytest.mark.parametrize("n_labels", [16, 60])
def test_auto_brings_the_confidence_down_to_what_labels_vouch_for(
    noise, make_classifier, n_labels
):
    """Computed anew, step by step, as the user guide has it."""
    X = noise[0]
    y = (X[:, 0] + 2 * np.random.RandomState(1).normal(size=300) > 0).astype(int)
    y_partly = np.where(np.arange(300) < n_labels, y, -1)
    clf = make_classifier(**LONG, consistency=8).fit(X, y_partly)
    clf.shrinkage_, shrinkage = 0, clf.shrinkage_
    pi = clf.predict_proba(X)
    classes = pi.argmax(axis=1)
    distances = np.linalg.norm(X - X[:, None], axis=2)
    np.fill_diagonal(distances, np.inf)
    near = classes[n_labels + distances[:, n_labels:].argmin(axis=1)]
    agree = (near == classes)[n_labels:].mean()
    h = (near == y)[:n_labels].mean()
    g = (labels_told(X, y[:n_labels]) == y[:n_labels]).mean()
    assert g < h < 1
    weight = max(2 * g - 1, 0)
    near_labels = weight * min(h / agree, 1) + (1 - weight) * h
    accuracy = weight * near_labels + (1 - weight) * g
    expected = max((n_labels * accuracy + 1) / (n_labels + 2), 0.5)
    confidence = pi.max(axis=1).mean()
    assert expected < confidence
    ours = (1 - shrinkage) * confidence + shrinkage / 2
    np.testing.assert_allclose(ours, max(expected, 0.5 + 0.01 * (confidence - 0.5)))


def test_one_label_of_a_class_vouches_for_what_spreading_it_says_too(noise, make_classifier):
    """No label can be left out: pi is trusted as far as it and the graph agree."""
    X, y, _ = noise
    y_partly = np.where(np.arange(300) < 2, y, -1)
    clf = make_classifier(**LONG).fit(X, y_partly)
    clf.shrinkage_, shrinkage = 0, clf.shrinkage_
    pi = clf.predict_proba(X)
    agree = (spread_by_steps(X, y[:2]) == pi.argmax(axis=1))[2:].mean()
    assert 0.5 < agree < 1
    confidence = pi.max(axis=1).mean()
    ours = (1 - shrinkage) * confidence + shrinkage / 2
    np.testing.assert_allclose(ours, (2 * agree + 1) / 4)


def test_a_pi_without_consistency_is_not_excused_by_its_differences(noise, make_classifier):
    X, _, y = noise
    es = make_classifier(**LONG, alpha=np.inf).fit(X, y)
    es.shrinkage_, ours = 0, es.shrinkage_
    pi = es.predict_proba(X)
    labeled, nearest, _ = surroundings_of_labels(X, y)
    spread = spread_labels(X, y)
    right = (pi.argmax(axis=1)[nearest] == y[labeled]).mean()
    accuracy = accuracy_for(right, 1.0, (spread.told == spread.labels).mean(), 2)
    expected = shrinkage_for(pi.max(axis=1).mean(), accuracy, 10, 2)
    assert right < 1
    assert 0 < ours < 0.99
    np.testing.assert_allclose(ours, expected)


def test_probabilities_of_random_classes_are_better_for_it(noise, make_classifier):
    X, y, y_partly = noise
    loss = {}
    for shrinkage in (0, "auto"):
        clf = make_classifier(**LONG, shrinkage=shrinkage).fit(X, y_partly)
        loss[shrinkage] = log_loss(y[10:], clf.predict_proba(X[10:]))
    assert loss["auto"] < loss[0] - 0.05


def test_many_labels_of_clear_clusters_leave_pi_nearly_as_it_is(blobs, make_classifier):
    X, y, y_partly = blobs
    few = make_classifier(**LONG).fit(X, y_partly)
    all_known = make_classifier(**LONG).fit(X, y)
    assert all_known.shrinkage_ < 0.02
    assert few.shrinkage_ < 0.15


@pytest.mark.parametrize("n_labels", [4, 40, 400])
def test_pi_that_is_always_right_is_trusted_by_laplace_rule(n_labels):
    shrinkage = shrinkage_for(1.0, 1.0, n_labels, 2)
    np.testing.assert_allclose(1 - shrinkage / 2, (n_labels + 1) / (n_labels + 2))


def test_pi_that_is_less_sure_than_right_stays_as_it_is():
    assert shrinkage_for(0.6, 1.0, 100, 2) == 0


def test_pi_that_is_as_good_as_chance_keeps_the_order_of_classes():
    assert shrinkage_for(0.9, 0.2, 10, 2) == 0.99
    assert shrinkage_for(1.0, 0.0, 1000, 5) == 0.99


def test_what_pi_was_taught_counts_as_far_as_other_labels_tell_it():
    for right, told, accuracy in ((0.9, 0.6, 0.66), (0.9, 0.8, 0.86), (0.8, 0.9, 0.8)):
        np.testing.assert_allclose(accuracy_for(right, 1.0, told, 2), accuracy)


def test_what_neighbors_differ_by_is_no_error_of_pi_as_far_as_labels_are_told():
    """Where each label is told by the others, pi is as right as it can be."""
    for right, agree, told, accuracy in (
        (0.9, 0.9, 1.0, 1.0),
        (0.9, 0.8, 1.0, 1.0),
        (0.72, 0.9, 1.0, 0.8),
        (0.9, 0.9, 0.75, 0.5 * 0.95 + 0.5 * 0.75),
        (0.9, 0.9, 0.5, 0.5),
        (0.0, 0.0, 1.0, 0.0),
    ):
        np.testing.assert_allclose(accuracy_for(right, agree, told, 2), accuracy)


def test_the_paper_and_models_without_consistency_have_pi_itself(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(consistency=0).fit(X, y)
    assert clf.shrinkage_ == 0
    assert make_classifier(consistency=0, shrinkage=0.2).fit(X, y).shrinkage_ == 0.2


def test_each_factor_has_its_own_and_it_survives_saving(noise, blobs, make_classifier):
    X, _, y = blobs
    y = np.column_stack([y, noise[2]])
    clf = make_classifier(**LONG).fit(X, y)
    assert clf.shrinkage_.shape == (2,)
    assert clf.shrinkage_[0] != clf.shrinkage_[1]
    pi = make_classifier(**LONG, shrinkage=0).fit(X, y).predict_proba(X)
    for ours, of_factor, shrinkage in zip(clf.predict_proba(X), pi, clf.shrinkage_):
        expected = (1 - shrinkage) * of_factor + shrinkage / of_factor.shape[1]
        np.testing.assert_allclose(ours, expected)
    restored = pickle.loads(pickle.dumps(clf))
    for ours, theirs in zip(clf.predict_proba(X), restored.predict_proba(X)):
        assert np.array_equal(ours, theirs)


def test_chunks_without_labels_are_unsure_until_labels_come(blobs, make_classifier):
    X, y, _ = blobs
    clf = make_classifier(learning_rate=0.01)
    nothing = np.full(len(X), -1)
    clf.partial_fit(X, nothing, classes=[0, 1, 2])
    assert clf.shrinkage_ == 0.99
    for _ in range(30):
        clf.partial_fit(X, y)
    with_labels = clf.shrinkage_
    assert with_labels < 0.05
    assert clf.partial_fit(X, nothing).shrinkage_ == with_labels


def test_one_label_of_a_later_chunk_hardly_changes_how_sure_a_model_is(blobs, make_classifier):
    X, y, _ = blobs
    clf = make_classifier(learning_rate=0.01)
    for _ in range(30):
        clf.partial_fit(X, y, classes=[0, 1, 2])
    before = clf.shrinkage_
    wrong = np.where(np.arange(300) == 7, (y + 1) % 3, -1)
    assert before <= clf.partial_fit(X, wrong).shrinkage_ < before + 0.01


@pytest.mark.parametrize("shrinkage", [-0.1, 1.0, "much", None])
def test_other_values_are_refused(blobs, make_classifier, shrinkage):
    X, _, y = blobs
    with pytest.raises(ValueError, match="'shrinkage' parameter"):
        make_classifier(shrinkage=shrinkage).fit(X, y)


@pytest.fixture
def thirty_columns():
    """Rows of unlike units, every sixth labeled with its half of the first column."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(120, 30)) @ rng.normal(size=(30, 30)) * np.logspace(-2, 2, 30)
    codes = np.where(np.arange(120) % 6 == 0, X[:, 0] > 0, -1)
    scaled = StandardScaler().fit_transform(X)
    return X, codes, PCA(20, svd_solver="full").fit_transform(scaled)


def test_surroundings_are_those_in_the_leading_directions(thirty_columns):
    X, codes, Z = thirty_columns
    labeled, nearest, pairs = surroundings_of_labels(X, codes)
    assert np.array_equal(labeled, np.arange(0, 120, 6))
    for row, found in zip(labeled, nearest):
        distances = np.where(codes < 0, np.linalg.norm(Z - Z[row], axis=1), np.inf)
        assert found == np.argmin(distances)
    for row, found in pairs.T:
        distances = np.where(codes < 0, np.linalg.norm(Z - Z[row], axis=1), np.inf)
        assert found == np.argsort(distances)[1]
    assert np.array_equal(pairs[0], np.flatnonzero(codes < 0))


def test_labels_spread_in_the_leading_directions(thirty_columns):
    X, codes, Z = thirty_columns
    labeled, unlabeled = np.flatnonzero(codes >= 0), np.flatnonzero(codes < 0)
    labels, told, rows, classes = spread_labels(X, codes)
    Z = Z[np.r_[labeled, unlabeled]]
    assert np.array_equal(labels, codes[labeled])
    assert np.array_equal(told, labels_told(Z, labels))
    assert 0.4 < (told == labels).mean() < 1
    assert np.array_equal(rows, unlabeled)
    assert np.array_equal(classes, spread_by_steps(Z, codes[labeled])[20:])


def test_the_only_label_of_a_class_is_told_by_no_other(thirty_columns):
    X, codes, _ = thirty_columns
    lonely = codes.copy()
    lonely[1] = 2
    assert len(spread_labels(X, lonely).told) == 20
    lonely = np.full(120, -1)
    lonely[:3] = [0, 1, 2]
    assert len(spread_labels(X, lonely).told) == 0


def test_shares_go_as_far_to_those_of_the_rows_as_labels_tell_one_another():
    """From those of nine labels towards those of 97 rows, by Laplace's rule."""
    count, classes = np.array([3, 3, 3]), np.repeat([0, 1, 2], [79, 14, 4])
    labels, by_rows = np.repeat([0, 1, 2], 3), np.array([0.8, 0.15, 0.05])
    two_of_three = [0, 0, 1, 1, 1, 2, 2, 2, 0]
    for told, farthest in (
        (labels, 0.75),
        (two_of_three, 0.375),
        ([0, 1, 2] * 3, 0),
        (np.zeros(9, dtype=int), 0),
        ((labels + 1) % 3, 0),
    ):
        spread = SpreadLabels(labels, np.array(told), np.arange(97), classes)
        possible = class_shares(count, spread)
        np.testing.assert_allclose(possible.sum(axis=1), 1)
        for found, v in zip(possible, np.arange(11) / 10 * farthest, strict=True):
            np.testing.assert_allclose(found, by_rows**v / (by_rows**v).sum())


@pytest.mark.parametrize("labels", [[], [1, 1, 1]])
def test_shares_are_those_of_the_labels_where_they_tell_nothing(labels):
    labels = np.array(labels, dtype=int)
    spread = SpreadLabels(labels, labels, np.arange(97), np.arange(97) % 3)
    for nothing in (None, spread):
        found = class_shares(np.array([0, 1, 3]), nothing)
        np.testing.assert_allclose(found, [[1 / 7, 2 / 7, 4 / 7]])


def test_a_rare_class_does_not_get_the_rows_of_a_frequent_one():
    """All but two of fifty labels are told, but only one of the two of the rare class."""
    labels = np.repeat([0, 1], [48, 2])
    told = np.repeat([0, 1, 0, 1], [47, 1, 1, 1])
    spread = SpreadLabels(labels, told, np.arange(100), np.repeat([0, 1], [80, 20]))
    assert class_shares(np.array([48, 2]), spread)[:, 1].max() < 0.12


def test_where_most_rows_have_a_label_these_are_looked_at(make_classifier):
    """Two clusters that pi knows by heart: Laplace's rule is all that is left."""
    y = np.arange(16) % 2
    X = 10.0 * y[:, None] + np.random.RandomState(0).normal(size=(16, 3))
    clf = make_classifier(**LONG, consistency=1).fit(X, np.where(np.arange(16) < 10, y, -1))
    clf.shrinkage_, ours = 0, clf.shrinkage_
    pi = clf.predict_proba(X)
    assert np.array_equal(pi[:10].argmax(axis=1), y[:10])
    confidence = pi.max(axis=1).mean()
    np.testing.assert_allclose(ours, (confidence - 11 / 12) / (confidence - 1 / 2))
    assert ours > 0.05
