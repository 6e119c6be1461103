import itertools

import numpy as np
import pytest

from sklearn_ssvae.metrics import (
    _draw_pairs,
    _Groups,
    _mean_differences,
    beta_vae_score,
)

N_VALUES = (5, 9, 6, 4)


@pytest.fixture
def factors():
    grid = np.array(list(itertools.product(*map(range, N_VALUES))))
    return np.random.RandomState(0).permutation(grid)


@pytest.fixture
def Z(factors):
    return (factors - factors.mean(0)) / factors.std(0)


def _rotation(seed, size):
    return np.linalg.qr(np.random.RandomState(seed).normal(size=(size, size)))[0]


def _groups(factors):
    return [_Groups(column, number) for number, column in enumerate(factors.T)]


def test_one_unit_for_each_factor_scores_one(Z, factors):
    noise = np.random.RandomState(1).normal(size=(len(Z), 6))
    units = np.hstack([Z, np.zeros((len(Z), 6))]) + 0.1 * np.hstack([noise[:, :4], noise])
    assert beta_vae_score(units, factors, random_state=0) > 0.999


def test_pure_noise_scores_the_chance(factors):
    noise = np.random.RandomState(1).normal(size=(len(factors), 8))
    assert beta_vae_score(noise, factors, random_state=0) == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_a_random_rotation_lowers_the_score(Z, factors, seed):
    score = beta_vae_score(Z @ _rotation(seed, 4), factors, batch_size=4, random_state=0)
    assert score < beta_vae_score(Z, factors, batch_size=4, random_state=0) - 0.05


def test_factors_spread_evenly_over_the_units_are_hardly_told_apart(factors):
    values = np.random.RandomState(1).normal(size=(9, 4))
    values = (values - values.mean(0)) / values.std(0)
    grid = np.random.RandomState(2).randint(9, size=(4000, 4))
    Z = np.take_along_axis(values, grid, axis=0)
    evenly = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    assert beta_vae_score(Z, grid, random_state=0) > 0.999
    assert beta_vae_score(Z @ evenly, grid, random_state=0) < 0.6


def test_the_same_seed_gives_the_same_score(factors):
    rng = np.random.RandomState(1)
    Z = factors + 4 * rng.normal(size=factors.shape)
    scores = [beta_vae_score(Z, factors, random_state=seed) for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]
    rng = np.random.RandomState(0)
    assert beta_vae_score(Z, factors, random_state=rng) == scores[0]


def test_the_order_of_the_rows_and_the_names_of_the_values_do_not_matter_much(factors):
    rng = np.random.RandomState(1)
    Z = factors + 2 * rng.normal(size=factors.shape)
    names = np.array([f"value {value}" for value in "qwertyuio"], dtype=object)[factors]
    rows = rng.permutation(len(Z))
    score = beta_vae_score(Z, factors, random_state=0)
    assert beta_vae_score(Z, names, random_state=0) == pytest.approx(score, abs=0.05)
    shuffled = beta_vae_score(Z[rows], factors[rows], random_state=0)
    assert shuffled == pytest.approx(score, abs=0.05)


def test_float32_scores_as_float64(Z, factors):
    Z = (Z @ _rotation(0, 4)).astype(np.float32)
    kwargs = {"batch_size": 8, "random_state": 0}
    double = beta_vae_score(Z.astype(np.float64), factors, **kwargs)
    assert beta_vae_score(Z, factors, **kwargs) == pytest.approx(double, abs=0.002)


def test_the_two_rows_of_a_pair_differ_and_share_the_factor(factors):
    factors = factors[:200]
    pairs = _draw_pairs(_groups(factors), 300, 16, np.random.RandomState(0))
    for k, first, second in zip(*pairs):
        assert (factors[first, k] == factors[second, k]).all()
        assert (first != second).all()
    # Each pair has its own value, and the factors that are not shared are free.
    assert len(np.unique(factors[pairs[1][0], pairs[0][0]])) > 1
    assert (factors[pairs[1]] == factors[pairs[2]]).mean() < 0.6


def test_partners_are_drawn_uniformly_from_the_other_rows_of_the_value():
    column = np.array(["b", "a", "b", "a", "b", "b", "a"])
    rng = np.random.RandomState(0)
    partners = _Groups(column, 0).draw_partners(np.repeat(np.arange(7), 6000), rng)
    counts = np.stack([np.bincount(drawn, minlength=7) for drawn in partners.reshape(7, -1)])
    share = (column[:, None] == column) & ~np.eye(7, dtype=bool)
    expected = 6000 * share / share.sum(1, keepdims=True)
    assert (counts[~share] == 0).all()
    np.testing.assert_allclose(counts, expected, atol=4.5 * 40)


def test_factors_and_first_rows_are_drawn_uniformly(factors):
    k, first, _ = _draw_pairs(_groups(factors), 4000, 27, np.random.RandomState(0))
    np.testing.assert_allclose(np.bincount(k) / 4000, 1 / 4, atol=4.5 * 0.007)
    np.testing.assert_allclose(np.bincount(first.ravel()), 100, atol=5 * 10)


def test_the_differences_are_those_of_a_slow_loop():
    rng = np.random.RandomState(0)
    Z = rng.normal(size=(50, 3))
    first, second = rng.randint(50, size=(2, 7, 5))
    expected = [
        [
            sum(abs(Z[a, unit] - Z[b, unit]) for a, b in zip(first[point], second[point])) / 5
            for unit in range(3)
        ]
        for point in range(7)
    ]
    np.testing.assert_allclose(_mean_differences(Z, first, second), expected)


def _slow_differences(Z, factors, k, n_points, batch_size, rng):
    """Points of factor k, pair by pair, by the definition."""
    points = np.empty((n_points, Z.shape[1]))
    for point in points:
        differences = []
        for _ in range(batch_size):
            a = rng.randint(len(Z))
            same = np.flatnonzero(factors[:, k] == factors[a, k])
            b = rng.choice(same[same != a])
            differences.append(abs(Z[a] - Z[b]))
        point[:] = np.mean(differences, axis=0)
    return points


def test_the_points_are_distributed_as_those_of_a_slow_loop(Z, factors):
    rng = np.random.RandomState(0)
    rows = rng.permutation(len(Z))[:120]
    Z, factors = Z[rows] @ _rotation(0, 4), factors[rows]
    k, first, second = _draw_pairs(_groups(factors), 4000, 4, rng)
    fast = _mean_differences(Z, first, second)
    for factor in range(4):
        of_factor = fast[k == factor]
        slow = _slow_differences(Z, factors, factor, 400, 4, rng)
        error = np.sqrt(slow.var(0) / len(slow) + of_factor.var(0) / len(of_factor))
        assert (abs(slow.mean(0) - of_factor.mean(0)) < 4.5 * error).all()
        np.testing.assert_allclose(slow.std(0), of_factor.std(0), rtol=0.2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_logistic_regression_converges_at_any_usual_scale(factors, scale):
    rng = np.random.RandomState(1)
    Z = (factors @ rng.normal(size=(4, 8)) + rng.normal(size=(len(factors), 8))) * scale
    assert 0 <= beta_vae_score(Z, factors, random_state=0) <= 1


def test_a_constant_representation_scores_the_chance(factors):
    score = beta_vae_score(np.ones((len(factors), 3)), factors, random_state=0)
    assert score == pytest.approx(0.25, abs=0.04)


def _replace(array, value):
    array = np.array(array, dtype=float)
    array[3, 1] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda Z, f: (Z, f[:, 0]), "Expected 2D array, got 1D array"),
        (lambda Z, f: (Z[:, 0], f), "Expected 2D array, got 1D array"),
        (lambda Z, f: (Z[:-1], f), "inconsistent numbers of samples"),
        (lambda Z, f: (Z, f[:, :1]), "factors has 1 column"),
        (lambda Z, f: (Z, f * [1, 0, 1, 1]), r"Factor 1 has the value .*0.* in every row"),
        (lambda Z, f: (Z, _replace(f, 77)), r"Factor 1 has the value .*77.* in one row"),
        (lambda Z, f: (Z, _replace(f, np.nan)), "factors contains NaN"),
        (lambda Z, f: (_replace(Z, np.nan), f), "Z contains NaN"),
        (lambda Z, f: (_replace(Z, np.inf), f), "Z contains infinity"),
    ],
)
def test_wrong_arrays_are_named(Z, factors, change, message):
    with pytest.raises(ValueError, match=message):
        beta_vae_score(*change(Z, factors))


@pytest.mark.parametrize("name", ["batch_size", "n_train", "n_test"])
def test_sizes_are_positive_integers(Z, factors, name):
    with pytest.raises(ValueError, match=f"{name} == 0, must be >= 1"):
        beta_vae_score(Z, factors, **{name: 0})
    with pytest.raises(TypeError, match=f"{name} must be an instance of int"):
        beta_vae_score(Z, factors, **{name: 2.5})


def test_training_points_of_one_factor_alone_are_refused(Z, factors):
    with pytest.raises(ValueError, match="All n_train=1 training points drew factor"):
        beta_vae_score(Z, factors, n_train=1, random_state=0)
