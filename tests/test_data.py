import numpy as np
import pytest

from sklearn_ssvae._data import data_statistics, labels_follow_neighbors, stratified_holdout


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_unlike_units_have_the_statistics_of_numpy(dtype):
    rng = np.random.RandomState(0)
    X = (rng.normal(size=(5000, 300)) * np.logspace(0, 3, 300) + 50).astype(dtype)
    _, shift, scale = data_statistics(X, "gaussian")
    np.testing.assert_allclose(shift, X.mean(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(scale, X.std(0, dtype=np.float64), rtol=1e-5)


def test_columns_of_one_unit_share_the_root_mean_square_of_their_deviations():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(500, 6)) * [0.5, 2.0, 3.0, 3.0, 4.0, 0.0] + 50
    _, shift, scale = data_statistics(X, "gaussian")
    np.testing.assert_allclose(shift, X.mean(0))
    np.testing.assert_allclose(scale, np.full(6, np.sqrt(np.mean(X[:, :5].var(0)))))
    for factor in (1e-3, 1e3):
        np.testing.assert_allclose(data_statistics(factor * X, "gaussian")[2], factor * scale)


@pytest.mark.parametrize("units", [[1, 1000], [1, 500, 1000], [1] * 4 + [1000] * 6])
def test_few_columns_of_unlike_units_keep_their_own_scales(units):
    """Of so few the median is as large as the large ones."""
    X = np.random.RandomState(0).normal(size=(500, len(units))) * units
    np.testing.assert_allclose(data_statistics(X, "gaussian")[2], X.std(0))
    alike = X / units * np.linspace(1, 4, len(units))
    rms = np.sqrt(np.mean(alike.var(0)))
    np.testing.assert_allclose(data_statistics(alike, "gaussian")[2], rms)


def test_channels_keep_their_own_scales():
    X = np.random.RandomState(0).normal(size=(500, 3)) * [1.0, 2.0, 3.0]
    scale = data_statistics(X, "gaussian", one_unit=False)[2]
    np.testing.assert_allclose(scale, X.std(0))


def test_a_constant_column_has_the_scale_one():
    _, shift, scale = data_statistics(np.full((10, 2), [3.0, 1e9]), "gaussian")
    assert shift.tolist() == [3.0, 1e9]
    assert scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("column", "likelihood"),
    [
        ([0.0, 1.0] * 10, "bernoulli"),
        ([0.0, *[0.5] * 9], "bernoulli"),
        ([0.0, *[0.5] * 10], "gaussian"),
        ([0.0, 1.0, 1.001], "gaussian"),
        ([0.0, 1.0, -0.001], "gaussian"),
    ],
)
def test_a_tenth_of_zeros_and_ones_makes_bernoulli(column, likelihood):
    assert data_statistics(np.array(column)[:, None], "auto")[0] == likelihood


@pytest.mark.parametrize(("n_agreeing", "follow"), [(38, False), (40, True)])
def test_labels_follow_neighbors_from_two_standard_errors_above_chance(n_agreeing, follow):
    """64 rows in pairs, half of them of each class: 32 agree by chance, with an error of 4."""
    of_pair = np.arange(32)
    first = of_pair % 2
    second = np.where(of_pair < n_agreeing // 2, first, 1 - first)
    position = 10.0 * of_pair
    X = np.r_[position, position + 1][:, None]
    labels = np.r_[first, second]
    order = np.random.RandomState(0).permutation(64)
    assert labels_follow_neighbors(X[order], labels[order, None]) == follow


def test_labels_of_clusters_follow_neighbors_in_any_units_and_with_noise_beside():
    rng = np.random.RandomState(0)
    labels = np.arange(60) % 2
    X = rng.normal(size=(60, 200))
    X[:, :20] += 3 * labels[:, None]
    codes = np.r_[labels, np.full(540, -1)][:, None]
    X = np.r_[X, X[rng.randint(60, size=540)] + rng.normal(size=(540, 200))]
    for units in (1.0, np.logspace(-3, 3, 200)):
        assert labels_follow_neighbors(X * units, codes)


def test_neighbors_are_sought_where_the_unlabeled_rows_vary_most():
    """Ten columns of two clusters, among 390 of noise that decide what is nearest in all."""
    rng = np.random.RandomState(4)
    labels = np.arange(600) % 2
    X = 3.0 * rng.normal(size=(600, 400))
    X[:, :10] = 3.5 * labels[:, None] + rng.normal(size=(600, 10))
    codes = np.where(np.arange(600) < 60, labels, -1)[:, None]
    assert labels_follow_neighbors(X, codes)


def test_too_few_labels_do_not_tell_that_they_ignore_neighbors():
    X = np.random.RandomState(0).normal(size=(200, 3))
    for counts, follow in (
        ([60, 24], True),
        ([25, 25], False),
        ([40, 13, 12], False),
        ([100, 12, 12], True),
    ):
        labels = np.repeat(np.arange(len(counts)), counts)
        codes = np.r_[labels, np.full(200 - len(labels), -1)][:, None]
        assert labels_follow_neighbors(X, codes) == follow, counts


def test_one_factor_of_several_that_follows_neighbors_is_enough():
    rng = np.random.RandomState(0)
    X, random = rng.normal(size=(80, 3)), rng.randint(2, size=80)
    assert labels_follow_neighbors(X, np.column_stack([random, X[:, 0] > 0]).astype(int))
    assert not labels_follow_neighbors(X, np.column_stack([random, random]))


def test_the_validation_set_is_stratified_and_never_takes_a_class_last_label():
    codes = np.r_[np.repeat([0, 1, 2, 3], [50, 30, 9, 1]), np.full(400, -1)]
    for seed in range(20):
        train, held_out = stratified_holdout(codes, 0.1, np.random.RandomState(seed))
        assert sorted([*train, *held_out]) == list(range(490))
        counts = {code: (codes[held_out] == code).sum() for code in np.unique(codes)}
        for code, expected in {-1: 40, 0: 5, 1: 3, 2: 0.9, 3: 0}.items():
            assert abs(counts[code] - expected) <= 1
        assert counts[3] == 0


def test_a_labeled_row_is_held_out_whenever_a_class_has_two():
    codes = np.r_[0, 0, 1, np.full(37, -1)]
    for seed in range(20):
        _, held_out = stratified_holdout(codes, 0.01, np.random.RandomState(seed))
        assert (codes[held_out] == 0).sum() == 1
        assert (codes[held_out] == 1).sum() == 0


def test_rows_that_are_all_equal_have_no_neighbors_to_follow():
    """And no warning of a division by their variance."""
    labels = np.arange(100)[:, None] % 2
    assert not labels_follow_neighbors(np.ones((100, 4)), labels)
