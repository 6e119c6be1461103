import numpy as np
import pytest

from sklearn_ssvae._data import data_statistics, stratified_holdout


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_unlike_units_have_the_statistics_of_numpy(dtype):
    rng = np.random.RandomState(0)
    X = (rng.normal(size=(5000, 300)) * np.logspace(0, 3, 300) + 50).astype(dtype)
    _, shift, scale = data_statistics(X, "gaussian")
    np.testing.assert_allclose(shift, X.mean(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(scale, X.std(0, dtype=np.float64), rtol=1e-5)


def test_columns_of_one_unit_share_the_root_mean_square_of_their_deviations():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(500, 6)) * [0.1, 2.0, 3.0, 3.0, 4.0, 0.0] + 50
    _, shift, scale = data_statistics(X, "gaussian")
    np.testing.assert_allclose(shift, X.mean(0))
    np.testing.assert_allclose(scale, np.full(6, np.sqrt(np.mean(X[:, :5].var(0)))))
    for factor in (1e-3, 1e3):
        np.testing.assert_allclose(data_statistics(factor * X, "gaussian")[2], factor * scale)


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
