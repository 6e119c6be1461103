import pickle

import numpy as np
import pytest
import torch

from sklearn_ssvae._augmentation import shift_images, shift_series

RECURRENT = {"network": "recurrent", "hidden_layer_sizes": (4, 4, 4)}


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(28, 28), (15, 44, 3)])
def test_a_shifted_image_is_a_window_of_the_image_with_its_edges_repeated(shape):
    images = torch.rand(40, *shape, generator=_generator())
    shifted = shift_images(images, _generator(1)).numpy()
    down, right = shape[0] // 14, shape[1] // 14
    found = set()
    for before, after in zip(images.numpy(), shifted):
        padding = [(down, down), (right, right)] + [(0, 0)] * (before.ndim - 2)
        padded = np.pad(before, padding, mode="edge")
        places = [
            (i, j)
            for i in range(2 * down + 1)
            for j in range(2 * right + 1)
            if np.array_equal(padded[i : i + shape[0], j : j + shape[1]], after)
        ]
        assert len(places) == 1
        found |= set(places)
    assert {i for i, _ in found} == set(range(2 * down + 1))
    assert {j for _, j in found} == set(range(2 * right + 1))


@pytest.mark.parametrize("shape", [(30,), (30, 3)])
def test_a_shifted_series_is_an_image_whose_width_stays(shape):
    series = torch.rand(40, *shape, generator=_generator())
    images = series.reshape(40, 30, -1)
    assert images.shape[2] < 14
    shifted = shift_series(series, _generator(1))
    assert torch.equal(shifted.reshape(images.shape), shift_images(images, _generator(1)))
    assert not torch.equal(shifted, series)


@pytest.mark.parametrize(
    ("shape", "params", "expected"),
    [
        ((14, 15), {}, shift_images),
        ((14, 14, 2), {"network": "conv"}, shift_images),
        ((14, 14), {"augmentation": None}, None),
        ((13, 40), {}, None),
        ((40, 6), {}, None),
        ((196,), {}, None),
        ((196,), {"input_shape": (14, 14)}, shift_images),
        ((14, 14), RECURRENT, shift_series),
        ((14,), RECURRENT, shift_series),
        ((13, 40), RECURRENT, None),
    ],
)
def test_images_and_the_series_of_a_recurrent_network_are_shifted_by_default(
    shape, params, expected, make_classifier
):
    X = np.random.RandomState(0).rand(20, *shape)
    clf = make_classifier(max_epochs=1, **params).fit(X, np.arange(20) % 2)
    assert clf.net_.augmentation is expected


def test_an_augmentation_gets_rows_in_their_own_shape_and_units(make_classifier):
    X = np.random.RandomState(0).randint(100, 200, size=(20, 4, 3)).astype(float)
    seen = []

    def remember(x, generator):
        seen.append(x.cpu())
        return x + torch.randint(0, 2, x.shape, generator=generator).to(x)

    make_classifier(max_epochs=1, augmentation=remember).fit(X, np.arange(20) % 2)
    rows = np.unique(np.concatenate(seen), axis=0)
    np.testing.assert_array_equal(rows, np.unique(X, axis=0))


def test_the_inconsistency_has_a_term_for_the_augmented_rows(blobs, make_classifier):
    """An augmentation that returns the rows as they are adds nothing."""
    X, _, y = blobs

    def further(x, generator):
        return x + 3 * x.std(dim=0)

    def inconsistency(augmentation):
        clf = make_classifier(augmentation=augmentation, max_epochs=1)
        return clf.fit(X, y).history_["inconsistency"][0]

    assert inconsistency(lambda x, generator: x) == pytest.approx(inconsistency(None))
    assert inconsistency(further) > inconsistency(None) + 0.01


def test_an_augmentation_may_change_its_rows_in_place(make_classifier):
    X = np.random.RandomState(0).randint(0, 2, size=(60, 4)).astype(np.float32)

    def without_the_first(x, generator):
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], dim=1)

    def in_place(x, generator):
        x[:, 0] = 0
        return x

    trained = [
        make_classifier(augmentation=augmentation).fit(X, np.arange(60) % 2).predict_proba(X)
        for augmentation in (without_the_first, in_place)
    ]
    np.testing.assert_array_equal(*trained)


def test_shifts_let_a_dense_network_know_bars_one_pixel_from_the_labeled_ones(
    make_classifier,
):
    """Horizontal and vertical bars; those of a kind have no pixel in common."""
    y_true = np.arange(120) % 2
    X = np.zeros((120, 15, 15))
    for image, label, place in zip(X, y_true, np.repeat([6, 7, 8], 40)):
        (image if label else image.T)[place] = 1
    y = np.where(np.isin(np.arange(120), [40, 41]), y_true, -1)
    params = {"hidden_layer_sizes": (64,), "max_epochs": 50, "learning_rate": 3e-3}
    accuracy = {
        augmentation: make_classifier(augmentation=augmentation, **params)
        .fit(X, y)
        .score(X, y_true)
        for augmentation in ("auto", None)
    }
    assert accuracy["auto"] > accuracy[None] + 0.2, accuracy


def _noisy(x, generator):
    return x + 0.1 * torch.randn(x.shape, generator=generator).to(x)


def test_a_fitted_model_with_an_augmentation_of_its_own_can_be_pickled(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(augmentation=_noisy, max_epochs=1).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert again.augmentation is _noisy


def test_an_augmentation_that_returns_another_shape_is_named(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(augmentation=lambda x, generator: x[:, :2])
    with pytest.raises(ValueError, match=r"turned rows of .*, 5\) into .*, 2\)"):
        clf.fit(X, y)


def test_an_augmentation_that_cannot_be_called_is_refused(blobs, make_classifier):
    X, _, y = blobs
    with pytest.raises(ValueError, match="'augmentation' parameter"):
        make_classifier(augmentation="rotate").fit(X, y)
