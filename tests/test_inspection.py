import matplotlib as mpl
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_digits

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier
from sklearn_ssvae.inspection import GenerationGridDisplay

mpl.use("Agg")


@pytest.fixture(scope="module")
def digits_model():
    X, y = load_digits(n_class=3, return_X_y=True)
    params = {"hidden_layer_sizes": (32,), "latent_dim": 3, "max_epochs": 3}
    return SSVAEClassifier(**params, random_state=0).fit(X / 16, y)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    mpl.pyplot.close("all")


def test_panels_of_a_class_conditional_prior_show_their_classes():
    """The decoder reads z alone there, and a style is placed in the class's part of z."""
    X, y = load_digits(n_class=3, return_X_y=True)
    params = {"hidden_layer_sizes": (32,), "latent_dim": 16, "max_epochs": 10}
    clf = SSVAEClassifier(**params, random_state=0).fit(X / 16, y)
    assert clf.prior_ == "class_conditional"
    display = GenerationGridDisplay.from_estimator(clf, n_steps=3, image_shape=(8, 8))
    found = [clf.predict(images.reshape(9, 64)) for images in display.images]
    assert np.mean([of_panel == y for y, of_panel in enumerate(found)]) > 0.9


def test_a_panel_decodes_one_class_over_the_plane(digits_model):
    display = GenerationGridDisplay.from_estimator(
        digits_model, n_steps=4, dims=(0, 2), extent=0.8, image_shape=(8, 8)
    )
    assert display.images.shape == (3, 4, 4, 8, 8)
    assert display.classes.tolist() == [0, 1, 2]
    # Second row from above, third column.
    z = [[norm.ppf(0.1 + 0.8 * 2 / 3), 0.0, norm.ppf(0.1 + 0.8 * 2 / 3)]]
    expected = digits_model.sample(y=1, z=z, observation_noise=False)[0].reshape(8, 8)
    np.testing.assert_allclose(display.images[1, 1, 2], expected)
    shown = display.axes_[1].images[0].get_array()
    np.testing.assert_allclose(shown[8:16, 16:24], expected)
    assert [axis.get_title() for axis in display.axes_] == ["0", "1", "2"]


def test_chosen_classes_go_into_axes_of_ones_own(digits_model):
    figure, axes = mpl.pyplot.subplots(1, 2)
    display = GenerationGridDisplay.from_estimator(
        digits_model, classes=[2, 0], n_steps=2, image_shape=(8, 8), ax=axes, cmap="viridis"
    )
    assert display.figure_ is figure
    assert axes[0].get_title() == "2"
    assert axes[0].images[0].get_cmap().name == "viridis"


def test_a_model_without_classes_has_one_panel():
    X = load_digits(n_class=3).images / 16
    det = SSVAEAnomalyDetector(
        hidden_layer_sizes=(16,), latent_dim=1, max_epochs=1, random_state=0
    ).fit(X)
    display = GenerationGridDisplay.from_estimator(det, n_steps=3)
    assert display.classes is None
    assert display.images.shape == (1, 3, 3, 8, 8)


def test_the_shape_of_images_may_be_an_array():
    X, y = load_digits(n_class=3, return_X_y=True)
    clf = SSVAEClassifier(
        input_shape=np.array([8, 8]), hidden_layer_sizes=(16,), max_epochs=1, random_state=0
    ).fit(X, y)
    display = GenerationGridDisplay.from_estimator(clf, n_steps=2)
    assert display.images.shape == (3, 2, 2, 8, 8)


def test_rows_that_are_no_images_are_refused(digits_model):
    with pytest.raises(ValueError, match="image_shape"):
        GenerationGridDisplay.from_estimator(digits_model)


def test_panels_of_several_factors_have_to_be_named():
    X, y = load_digits(n_class=3, return_X_y=True)
    clf = SSVAEClassifier(hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
    clf.fit(X, np.column_stack([y, y % 2]))
    with pytest.raises(ValueError, match=r"classes=\[\[0, 0\]\]"):
        GenerationGridDisplay.from_estimator(clf, image_shape=(8, 8))
    display = GenerationGridDisplay.from_estimator(
        clf, classes=[[0, 0], [1, 1]], n_steps=2, image_shape=(8, 8)
    )
    assert display.images.shape == (2, 2, 2, 8, 8)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"extent": 1.0}, r"extent must be in \(0, 1\)"),
        ({"dims": (0, 7)}, "latent dimensions"),
    ],
)
def test_a_grid_beyond_the_latent_space_is_refused(digits_model, params, message):
    with pytest.raises(ValueError, match=message):
        GenerationGridDisplay.from_estimator(digits_model, image_shape=(8, 8), **params)


def test_fewer_axes_than_panels_are_refused(digits_model):
    _, ax = mpl.pyplot.subplots(1, 2)
    with pytest.raises(ValueError, match="2 axes for 3 panels"):
        GenerationGridDisplay.from_estimator(digits_model, image_shape=(8, 8), ax=ax)
