import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier
from sklearn_ssvae._priors import PRIORS


@pytest.fixture(scope="module")
def digits():
    """Half of the digits, 50 of them labeled, and the other half to test on."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=0
    )
    rows = np.arange(len(X_train))
    labeled, _ = train_test_split(rows, train_size=50, stratify=y_train, random_state=0)
    y_partly = np.full(len(X_train), -1)
    y_partly[labeled] = y_train[labeled]
    return X_train, X_test, y_partly, y_test


@pytest.fixture(scope="module")
def fitted_digits(digits):
    X_train, _, y_partly, _ = digits
    return SSVAEClassifier(max_epochs=30, random_state=0).fit(X_train, y_partly)


def test_unlabeled_rows_of_digits_improve_the_classifier(digits, fitted_digits):
    """Against the same encoder on the fifty labeled rows alone."""
    X_train, X_test, y_partly, y_test = digits
    alone = SSVAEClassifier(alpha=np.inf, random_state=0).fit(X_train, y_partly)
    assert fitted_digits.score(X_test, y_test) > alone.score(X_test, y_test) + 0.03


def test_probabilities_are_probabilities(digits, fitted_digits):
    _, X_test, _, _ = digits
    proba = fitted_digits.predict_proba(X_test)
    assert proba.shape == (len(X_test), 10)
    assert proba.min() >= 0
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_allclose(np.exp(fitted_digits.predict_log_proba(X_test)), proba)
    assert np.array_equal(proba.argmax(1), fitted_digits.predict(X_test))


def test_probabilities_far_from_the_data_are_finite(digits, fitted_digits):
    _, X_test, _, _ = digits
    proba = fitted_digits.predict_proba(1e6 * X_test)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1)
    assert np.isfinite(fitted_digits.score_samples(1e6 * X_test)).all()


def test_samples_of_a_class_are_taken_for_it(fitted_digits):
    X, y = fitted_digits.sample(200, y=np.tile(np.arange(10), 20), random_state=0)
    assert X.shape == (200, 64)
    assert (fitted_digits.predict(X) == y).mean() > 0.5


def test_the_variances_are_the_mean_squared_errors_of_decoded_draws(
    blobs, make_classifier, expected_variance
):
    X, _, y = blobs
    clf = make_classifier(likelihood="gaussian", average=False, warm_start=True).fit(X, y)
    variance = clf.net_.inference_module.likelihood.variance()
    np.testing.assert_allclose(variance, expected_variance(clf, X), rtol=0.05)


def test_samples_look_like_the_data_in_mean_and_spread(digits, fitted_digits):
    X_train, *_ = digits
    X, y = fitted_digits.sample(2000, random_state=0)
    np.testing.assert_allclose(X.mean(0), X_train.mean(0), atol=2)
    assert X.std(0).sum() == pytest.approx(X_train.std(0).sum(), rel=0.2)
    np.testing.assert_allclose(np.bincount(y) / 2000, fitted_digits.class_prior_, atol=0.05)


def test_reconstruction_is_closer_than_the_mean(digits, fitted_digits):
    X_train, X_test, _, _ = digits
    error = ((fitted_digits.reconstruct(X_test) - X_test) ** 2).mean()
    assert error < 0.6 * ((X_train.mean(0) - X_test) ** 2).mean()


def test_inverse_transform_decodes_by_class_or_on_average(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(prior="normal", max_epochs=20).fit(X, y)
    Z = np.random.RandomState(0).normal(size=(5, 2))
    by_class = np.stack([clf.inverse_transform(Z, y=label) for label in range(3)])
    assert (by_class.std(axis=0) > 0.1 * X.std(axis=0)).any()
    average = np.tensordot(clf.class_prior_, by_class, axes=1)
    np.testing.assert_allclose(clf.inverse_transform(Z), average)


def test_a_decoder_that_reads_z_alone_refuses_a_class(fitted_digits):
    assert fitted_digits.prior_ == "class_conditional"
    Z = np.zeros((2, fitted_digits.latent_dim))
    assert fitted_digits.inverse_transform(Z).shape == (2, 64)
    with pytest.raises(ValueError, match=r"reads z alone.* sample\(y=\.\.\., z=\.\.\.\)"):
        fitted_digits.inverse_transform(Z, y=3)


def test_a_style_makes_rows_of_the_class_that_is_asked_for(fitted_digits):
    """Under the class-conditional prior, where the decoder reads no class."""
    styles = 0.5 * np.random.RandomState(0).normal(size=(20, fitted_digits.latent_dim))
    right = [
        fitted_digits.predict(fitted_digits.sample(y=y, z=styles, observation_noise=False)[0])
        == y
        for y in range(10)
    ]
    assert np.mean(right) > 0.8


def test_decoding_the_embedding_with_a_sure_class_is_the_reconstruction(
    blobs, make_classifier
):
    X, _, y = blobs
    clf = make_classifier(
        prior="normal", alpha=20, max_epochs=100, learning_rate=0.01, shrinkage=0
    )
    clf.fit(X, y)
    sure = X[clf.predict_proba(X).max(1) > 0.999]
    assert len(sure) > 10
    decoded = clf.inverse_transform(clf.transform(sure), y=clf.predict(sure))
    difference = (decoded - clf.reconstruct(sure)) / X.std(0)
    assert np.abs(difference).max() < 0.05


def test_the_unit_of_the_columns_changes_no_class(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(max_epochs=20)
    plain = clone(clf).fit(X, y)
    scaled = clone(clf).fit(1e6 * X, y)
    assert np.array_equal(plain.predict(X), scaled.predict(1e6 * X))
    np.testing.assert_allclose(
        plain.predict_proba(X), scaled.predict_proba(1e6 * X), atol=1e-4
    )


def test_the_unit_shifts_the_log_density_by_its_logarithm(blobs, make_classifier):
    X, _, y = blobs
    plain = make_classifier().fit(X, y)
    scaled = make_classifier().fit(8 * X, y)
    np.testing.assert_allclose(
        scaled.score_samples(8 * X), plain.score_samples(X) - 5 * np.log(8), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("names", "marker"),
    [
        (np.array(["ant", "bee", "cat", -1], dtype=object), -1),
        (np.array(["ant", "bee", "cat", None], dtype=object), None),
        (np.array(["ant", "bee", "cat", "?"]), "?"),
        (np.array([10.0, 20.0, 30.0, np.nan]), np.nan),
        (np.array([10, 20, 30, 99]), 99),
        (np.array([-1, 7, 8, 0]), 0),
    ],
)
def test_labels_come_back_as_they_were(names, marker, blobs, make_classifier):
    X, _, y = blobs
    codes = make_classifier().fit(X, y)
    named = make_classifier(unlabeled=marker).fit(X, names[y])
    assert named.classes_.tolist() == names[:3].tolist()
    assert named.predict(X).tolist() == names[:3][codes.predict(X)].tolist()
    assert named.score(X, names[y]) == codes.score(X, y)


@pytest.mark.parametrize("n_labeled", [3, 30, 300])
def test_every_share_of_labels_fits(n_labeled, blobs, make_classifier):
    X, y, _ = blobs
    order = np.argsort(y, kind="stable").reshape(3, 100).T.ravel()
    y_partly = np.full(300, -1)
    y_partly[order[:n_labeled]] = y[order[:n_labeled]]
    clf = make_classifier(max_epochs=60).fit(X, y_partly)
    assert clf.score(X, y) > 0.8


def test_score_skips_unlabeled_rows_and_takes_weights(blobs, make_classifier):
    X, _y_true, y = blobs
    clf = make_classifier().fit(X, y)
    labeled = y >= 0
    assert clf.score(X, y) == (clf.predict(X) == y)[labeled].mean()
    weight = np.arange(300.0)
    expected = np.average((clf.predict(X) == y)[labeled], weights=weight[labeled])
    assert clf.score(X, y, weight) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no labeled row to score on"):
        clf.score(X, np.full(300, -1))


@pytest.mark.parametrize("container", [pd.DataFrame, pl.DataFrame])
def test_data_frames_go_in_and_come_out(container, blobs, make_classifier):
    X, _, y = blobs
    columns = [f"column {i}" for i in range(5)]
    frame = container(dict(zip(columns, X.T)))
    clf = make_classifier().fit(frame, y)
    assert clf.feature_names_in_.tolist() == columns
    library = "pandas" if container is pd.DataFrame else "polars"
    Z = clf.set_output(transform=library).transform(frame)
    assert isinstance(Z, container)
    assert list(Z.columns) == ["ssvaeclassifier0", "ssvaeclassifier1"]
    # Columns are summed in another order than in an array.
    plain = make_classifier().fit(X, y).transform(X)
    np.testing.assert_allclose(Z, plain, rtol=1e-3, atol=1e-4)


def test_images_keep_their_shape(make_classifier):
    digits = load_digits(n_class=3)
    y = np.where(np.arange(len(digits.target)) < 60, digits.target, -1)
    clf = make_classifier().fit(digits.images, y)
    assert clf.reconstruct(digits.images[:4]).shape == (4, 8, 8)
    assert clf.sample(3, random_state=0)[0].shape == (3, 8, 8)
    assert clf.inverse_transform(np.zeros((2, 2))).shape == (2, 8, 8)
    flat = make_classifier(input_shape=(8, 8)).fit(digits.data, y)
    assert np.array_equal(flat.predict(digits.data), clf.predict(digits.images))
    with pytest.raises(ValueError, match="rows of shape"):
        clf.predict(digits.images[:, :, :4])


@pytest.mark.parametrize("column", [np.zeros(300), np.full(300, 1e9), np.full(300, 1e-9)])
def test_a_constant_column_changes_nothing_but_itself(column, blobs, make_classifier):
    X, y_true, y = blobs
    clf = make_classifier(max_epochs=40).fit(np.column_stack([X, column]), y)
    assert clf.score(np.column_stack([X, column]), y_true) > 0.8
    assert np.isfinite(clf.score_samples(np.column_stack([X, column]))).all()


def test_a_single_column_is_enough(blobs, make_classifier):
    _, y_true, y = blobs
    X = 10.0 * y_true[:, None] + np.random.RandomState(0).normal(size=(300, 1))
    clf = make_classifier(max_epochs=100).fit(X, y)
    assert clf.score(X, y_true) > 0.95
    assert clf.transform(X).shape == (300, 2)


def test_a_batch_larger_than_the_data(blobs, make_classifier):
    X, y_true, y = blobs
    clf = make_classifier(batch_size=10_000, max_epochs=150, learning_rate=0.01).fit(X, y)
    assert clf.score(X, y_true) > 0.8


def test_two_rows_are_the_least(make_classifier):
    X = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert make_classifier().fit(X, [0, 1]).predict(X).shape == (2,)


def test_the_sibling_without_a_decoder_learns_from_labeled_rows_alone(blobs, make_classifier):
    X, _y_true, y = blobs
    labeled = y >= 0
    es = make_classifier(alpha=np.inf, max_epochs=100).fit(X, y)
    assert set(es.history_) == {"loss", "cross_entropy"}
    other_unlabeled = X.copy()
    other_unlabeled[~labeled] = X[~labeled][::-1]
    again = make_classifier(alpha=np.inf, max_epochs=100).fit(other_unlabeled, y)
    np.testing.assert_allclose(es.predict_proba(X), again.predict_proba(X), atol=1e-4)
    for method in ("transform", "reconstruct", "sample", "score_samples"):
        assert not hasattr(es, method)
    with pytest.raises(AttributeError, match="has no attribute 'sample'"):
        es.sample()


def test_alpha_weighs_the_cross_entropy(blobs, make_classifier):
    X, _, y = blobs
    low = make_classifier(alpha=0.01, max_epochs=30).fit(X, y).history_["cross_entropy"][-1]
    high = make_classifier(alpha=100, max_epochs=30).fit(X, y).history_["cross_entropy"][-1]
    assert high < low


@pytest.mark.parametrize(
    ("n_features", "labels_per_class", "alpha"),
    [
        *((2, 1, 6.0), (5, 5, 2.4), (40, 5, 0.3), (100, 5, 0.3), (5, 10, 9.6)),
        *((100, 10, 0.48), (5, 20, 38.4), (5, 30, 40.0), (1000, 30, 0.3)),
    ],
)
def test_a_label_counts_the_more_nats_the_more_there_are_of_its_class(
    n_features, labels_per_class, alpha, make_classifier
):
    X = np.random.RandomState(0).normal(size=(100, n_features))
    y = np.where(np.arange(100) < 2 * labels_per_class, np.arange(100) % 2, -1)
    clf = make_classifier(max_epochs=1).fit(X, y)
    assert clf.alpha_ == pytest.approx(alpha)
    assert clf.net_.criterion_.alpha == clf.alpha_


def test_the_factor_with_the_fewest_labels_of_a_class_sets_their_weight(make_classifier):
    X = np.random.RandomState(0).normal(size=(100, 5))
    y = np.column_stack([np.arange(100) % 2, np.arange(100) % 10])
    y[:50] = -1
    assert make_classifier(max_epochs=1).fit(X, y).alpha_ == pytest.approx(2.4)


def test_chunks_weigh_labels_by_how_many_came_so_far(make_classifier):
    X = np.random.RandomState(0).normal(size=(20, 5))
    clf, y = make_classifier(), np.arange(20) % 4
    alphas = [clf.partial_fit(X, y, classes=range(4)).alpha_ for _ in range(3)]
    np.testing.assert_allclose(alphas, [2.4, 9.6, 21.6])


@pytest.mark.parametrize(
    ("params", "beta", "learning_rate", "consistency"),
    [
        ({}, 2.0, 1e-3, 8),
        ({"prior": "normal"}, 1.0, 1e-3, 8),
        ({"network": "recurrent"}, 1.0, 3e-3, 300),
    ],
)
def test_beta_follows_the_prior_and_other_parameters_the_network(
    params, beta, learning_rate, consistency
):
    X = np.random.RandomState(0).normal(size=(120, 4, 2))
    y = np.where(np.arange(120) < 40, np.arange(120) % 2, -1)
    clf = SSVAEClassifier(max_epochs=1, **params).fit(X, y)
    started_from_it = SSVAEClassifier(max_epochs=1).fit(X, y, init_model=clf)
    for fitted in (clf, started_from_it):
        assert fitted.net_.criterion_.beta == beta
        assert fitted.net_.lr == learning_rate
        assert fitted.consistency_ == consistency
    chosen = SSVAEClassifier(max_epochs=1, beta=0.5, learning_rate=0.01, **params).fit(X, y)
    assert (chosen.net_.criterion_.beta, chosen.net_.lr) == (0.5, 0.01)


def test_neighbors_of_series_that_begin_anywhere_are_not_asked():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(120, 4, 2)), rng.randint(2, size=120)
    clf = SSVAEClassifier(network="recurrent", max_epochs=1).fit(X, y)
    started_from_it = SSVAEClassifier(max_epochs=1).fit(X, y, init_model=clf)
    assert clf.consistency_ == started_from_it.consistency_ == 300
    assert SSVAEClassifier(max_epochs=1).fit(X, y).consistency_ == 0


def test_the_density_of_four_columns_does_not_outvote_the_labels():
    """With alpha=0.3 two kinds of iris fall together, and the accuracy is 2/3."""
    X, y = load_iris(return_X_y=True)
    labeled, others = train_test_split(
        np.arange(150), train_size=15, stratify=y, random_state=0
    )
    y_partly = np.full(150, -1)
    y_partly[labeled] = y[labeled]
    clf = SSVAEClassifier(hidden_layer_sizes=64, random_state=0).fit(X, y_partly)
    assert clf.score(X[others], y[others]) > 0.8


def test_beta_weighs_the_kl_divergence(blobs, make_classifier):
    X, _, y = blobs
    ends = [
        make_classifier(beta=beta, max_epochs=30).fit(X, y).history_["kl_divergence"][-1]
        for beta in (0.01, 1.0, 10.0)
    ]
    assert ends[0] > ends[1] > ends[2]


# partial_fit, warm_start and models that start from others


def test_partial_fit_on_chunks_learns_the_classes(blobs, make_classifier):
    X, y_true, y = blobs
    order = np.random.RandomState(0).permutation(300)
    clf = make_classifier()
    for _ in range(40):
        for chunk in np.array_split(order, 3):
            clf.partial_fit(X[chunk], y[chunk], classes=[0, 1, 2])
    assert clf.n_iter_ == 120
    assert clf.history_["loss"].shape == (120,)
    assert clf.score(X, y_true) > 0.8
    assert clf.class_count_.tolist() == [400, 400, 400]


def test_partial_fit_is_one_epoch_from_the_present_weights(blobs, make_classifier):
    """With the shares of the classes named, for which a chunk is not looked through."""
    X, _, y = blobs
    params = {"class_prior": [1 / 3] * 3, "shrinkage": 0}
    one = make_classifier(max_epochs=1, **params).fit(X, y)
    first = make_classifier(max_epochs=7, **params).partial_fit(X, y, classes=[0, 1, 2])
    assert np.array_equal(one.predict_proba(X), first.predict_proba(X))


def test_partial_fit_takes_chunks_without_labels_or_of_one_class(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().partial_fit(X, y, classes=[0, 1, 2])
    clf.partial_fit(X[y == 0], y[y == 0]).partial_fit(X, np.full(300, -1))
    clf.partial_fit(X[:1], y[:1])
    assert clf.classes_.tolist() == [0, 1, 2]


def test_partial_fit_refuses_other_classes_and_other_columns(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="not the same as on last call"):
        clf.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="not among the known classes"):
        clf.partial_fit(X, np.where(y == 0, 9, y))
    with pytest.raises(ValueError, match="4 features, but SSVAEClassifier is expecting 5"):
        clf.partial_fit(X[:, :4], y)


def test_warm_start_goes_on_as_one_long_fit(blobs, make_classifier):
    X, _, y = blobs
    long = make_classifier(max_epochs=6).fit(X, y)
    twice = make_classifier(max_epochs=3, warm_start=True).fit(X, y).fit(X, y)
    assert np.array_equal(long.predict_proba(X), twice.predict_proba(X))
    assert np.array_equal(long.history_["loss"], twice.history_["loss"])


@pytest.mark.parametrize(
    ("method", "options"), [("fit", {}), ("partial_fit", {"classes": [0, 1]})]
)
def test_a_further_fit_keeps_the_prior_that_auto_took_for_the_first_rows(
    method, options, make_classifier
):
    y = np.arange(400) % 2
    X = np.random.RandomState(0).normal(size=(400, 3)) + 3 * y[:, None]
    clf = make_classifier(warm_start=True, max_epochs=1)
    getattr(clf, method)(X[:99], y[:99], **options)
    assert isinstance(clf.net_.module_.prior, PRIORS["normal"])
    getattr(clf, method)(X, y, **options)
    assert isinstance(clf.net_.module_.prior, PRIORS["normal"])
    clf.set_params(warm_start=False).fit(X, y)
    assert isinstance(clf.net_.module_.prior, PRIORS["class_conditional"])


def test_fit_without_warm_start_begins_anew(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().fit(X, y)
    first = clf.predict_proba(X)
    assert np.array_equal(clf.fit(X, y).predict_proba(X), first)


def test_warm_start_takes_classes_that_arrive_later(blobs, make_classifier):
    X, y_true, y = blobs
    two = np.where(y == 2, -1, y)
    clf = make_classifier(warm_start=True, max_epochs=40).fit(X, two)
    assert clf.classes_.tolist() == [0, 1]
    clf.fit(X, y)
    assert clf.classes_.tolist() == [0, 1, 2]
    assert clf.score(X, y_true) > 0.8


def test_a_classifier_starts_as_the_detector_it_was_given(
    blobs, make_classifier, make_detector
):
    """Equal in output at the first step, the pi head aside."""
    X, _, y = blobs
    noise = {"likelihood": "heteroscedastic_gaussian"}
    det = make_detector(max_epochs=20, anomaly_score="log_prob", **noise).fit(X)
    still = {"max_epochs": 1, "learning_rate": 1e-30, **noise}
    clf = make_classifier(**still).fit(X, y, init_model=det)
    np.testing.assert_allclose(clf.transform(X), det.transform(X))
    np.testing.assert_allclose(clf.reconstruct(X), det.reconstruct(X))
    np.testing.assert_allclose(clf.score_samples(X), det.score_samples(X))


def test_a_classifier_learns_on_from_a_detector(blobs, make_classifier, make_detector):
    X, y_true, y = blobs
    det = make_detector(max_epochs=20).fit(X)
    before = det.score_samples(X)
    clf = make_classifier(max_epochs=40).fit(X, y, init_model=det)
    assert clf.score(X, y_true) > 0.8
    assert np.array_equal(det.score_samples(X), before)


def test_the_model_to_start_from_brings_its_network(blobs, make_classifier, make_detector):
    X, _, y = blobs
    det = make_detector(hidden_layer_sizes=(9, 4), latent_dim=3).fit(X)
    assert make_classifier().fit(X, y, init_model=det).transform(X).shape == (300, 3)


def test_weights_of_another_shape_are_refused(blobs, make_classifier, make_detector):
    X, _, y = blobs
    with pytest.raises(ValueError, match=r"input_shape=\(5,"):
        make_classifier().fit(X[:, :4], y, init_model=make_detector().fit(X))
    clf = make_classifier(warm_start=True).fit(X, y).set_params(latent_dim=3)
    with pytest.raises(ValueError, match=r"latent_dim=2, but this estimator asks for 3"):
        clf.fit(X, y)


# early stopping


def test_early_stopping_keeps_the_best_weights(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=3,
        max_epochs=200,
        learning_rate=0.02,
    ).fit(X, y)
    valid = clf.history_["valid_loss"]
    assert clf.n_iter_ < 200
    assert clf.n_iter_ == valid.argmin() + 1 + 3
    best = make_classifier(
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=200,
        max_epochs=int(valid.argmin()) + 1,
        learning_rate=0.02,
    ).fit(X, y)
    assert np.array_equal(best.predict_proba(X), clf.predict_proba(X))


def test_the_loss_of_held_out_rows_is_that_without_consistency(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(early_stopping=True, validation_fraction=0.3, alpha=2.0).fit(X, y)
    held_out = {name[6:] for name in clf.history_ if name.startswith("valid_")}
    assert held_out == {"loss", "log_prob", "kl_divergence", "cross_entropy"}
    valid = {name: clf.history_[f"valid_{name}"] for name in held_out}
    elbo = valid["log_prob"] - 2.0 * valid["kl_divergence"]
    expected = -elbo / X.shape[1] + 2.0 * valid["cross_entropy"]
    np.testing.assert_allclose(valid["loss"], expected, rtol=1e-5)


def test_the_detector_has_the_same_parameters():
    of_classifier = set(SSVAEClassifier().get_params())
    of_detector = set(SSVAEAnomalyDetector().get_params())
    own = {"anomaly_labels", "anomaly_score", "contamination", "n_classes"}
    assert of_detector - of_classifier == own
    assert of_classifier - of_detector == {"class_prior", "shrinkage"}


# What the decoder reads


def test_observed_labels_change_the_training_and_not_the_inference(blobs, make_classifier):
    X, _, y = blobs
    predicted = make_classifier().fit(X, y)
    observed = make_classifier(decoder_label="observed").fit(X, y)
    assert not np.array_equal(predicted.predict_proba(X), observed.predict_proba(X))
    # A row is reconstructed from its own pi, whether it was labeled or not.
    module = observed.net_.inference_module
    with torch.no_grad():
        x = torch.from_numpy(X)
        expected = module.reconstruct(x).numpy()
    np.testing.assert_allclose(observed.reconstruct(X), expected)


def test_a_style_can_be_chosen_with_the_class(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(prior="normal").fit(X, y)
    Z = clf.transform(X[:4])
    X_new, y_new = clf.sample(y=[0, 1, 2, 2], z=Z, observation_noise=False)
    np.testing.assert_allclose(X_new, clf.inverse_transform(Z, y=[0, 1, 2, 2]))
    assert y_new.tolist() == [0, 1, 2, 2]
    with pytest.raises(ValueError, match="Z has 3 columns"):
        clf.sample(z=np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("n_labeled", "n_in_batch"), [(30, 10), (100, 10), (400, 20), (900, 30), (1200, 30)]
)
def test_the_share_of_labeled_rows_in_a_batch_grows_with_the_root_of_their_number(
    n_labeled, n_in_batch, make_classifier
):
    class NoteLabeled(Callback):
        def on_batch_end(self, net, batch, **kwargs):
            seen.append(int((batch[1] >= 0).sum()))

    seen = []
    X = np.random.RandomState(0).normal(size=(6000, 2))
    y = np.where(np.arange(6000) < n_labeled, X[:, 0] > 0, -1)
    params = {"batch_size": 100, "max_epochs": 1, "consistency": 0.0}
    make_classifier(**params, callbacks=[NoteLabeled()]).fit(X, y)
    np.testing.assert_allclose(np.mean(seen), n_in_batch, atol=0.5)


def test_auto_epochs_make_a_number_of_batches_within_bounds(
    blobs, make_classifier, monkeypatch
):
    X, y, _ = blobs
    monkeypatch.setattr(SSVAEClassifier, "_auto_batches", 55)
    monkeypatch.setattr(SSVAEClassifier, "_auto_epochs", (2, 8))
    for batch_size, n_epochs in [(30, 6), (300, 8), (3, 2)]:  # 10, 1 and 100 batches an epoch
        clf = make_classifier(max_epochs="auto", batch_size=batch_size).fit(X, y)
        assert clf.n_iter_ == n_epochs
    monkeypatch.setattr(SSVAEClassifier, "_auto_batches_recurrent", 35)
    monkeypatch.setattr("sklearn_ssvae._base.RECURRENT_EPOCHS", (3, 9))
    series = make_classifier(network="recurrent", hidden_layer_sizes=(8, 8, 8))
    series.set_params(max_epochs="auto", input_shape=(X.shape[1], 1))
    for batch_size, n_epochs in [(30, 4), (300, 9), (10, 3)]:  # 10, 1 and 30 batches an epoch
        assert series.set_params(batch_size=batch_size).fit(X, y).n_iter_ == n_epochs
    assert series.set_params(batch_size=300, alpha=np.inf).fit(X, y).n_iter_ == 8


def test_the_shares_of_the_classes_are_those_of_all_labels_so_far(blobs, make_classifier):
    """By Laplace's rule, one label of each class more than there are."""
    X, y, _ = blobs
    y = np.where(y == 2, -1, y)
    y[:30] = -1
    clf = make_classifier()
    counts = np.ones(3)
    for rows in (slice(0, 150), slice(150, 300)):
        clf.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        counts += np.bincount(y[rows][y[rows] >= 0], minlength=3)
        shares = clf.net_.criterion_.class_shares["0"]
        np.testing.assert_allclose(shares, [counts / counts.sum()])


def pick_labels(y, n_each):
    """Keep the first labels of each class, equally many."""
    y_partly = np.full(len(y), -1)
    for label in np.unique(y):
        y_partly[np.flatnonzero(y == label)[:n_each]] = label
    return y_partly


def test_known_shares_of_the_classes_correct_labels_picked_evenly(make_classifier):
    rng = np.random.RandomState(0)
    y_true = (np.arange(600) % 10 == 0).astype(int)
    X = 1.5 * y_true[:, None] + rng.normal(size=(600, 2))
    y = pick_labels(y_true, 10)
    params = {"hidden_layer_sizes": (64,), "max_epochs": 60, "alpha": 1.0}
    by_labels = make_classifier(**params).fit(X, y)
    known = make_classifier(class_prior=[0.9, 0.1], **params).fit(X, y)
    assert 0.5 <= by_labels.class_prior_[0] < 0.6
    np.testing.assert_array_equal(known.class_prior_, [0.9, 0.1])
    assert known.predict(X).mean() < by_labels.predict(X).mean() - 0.1
    assert known.score(X, y_true) > by_labels.score(X, y_true) + 0.1


def test_clear_clusters_tell_the_shares_where_labels_were_picked_evenly(
    blobs, make_classifier
):
    """Ten labels of each of three clusters, of which one has a fifth of the rows."""
    X, y_true, _ = blobs
    keep = (y_true != 2) | (np.cumsum(y_true == 2) <= 20)
    X, y_true = X[keep], y_true[keep]
    y = pick_labels(y_true, 10)
    clf = make_classifier(max_epochs=10).fit(X, y)
    shares = np.bincount(y_true[y < 0]) / np.count_nonzero(y < 0)
    assert shares[2] < 0.06
    possible = clf.net_.criterion_.class_shares["0"]
    for found, v in ((possible[0], 0), (clf.class_prior_, 15 / 33), (possible[-1], 30 / 33)):
        expected = shares**v
        np.testing.assert_allclose(found, expected / expected.sum(), atol=0.02)
    assert np.array_equal(possible[len(possible) // 2], clf.class_prior_)
    papers = make_classifier(consistency=0, max_epochs=10).fit(X, y)
    np.testing.assert_allclose(papers.class_prior_, 1 / 3)


def test_labels_picked_evenly_do_not_make_clusters_equal(make_classifier):
    """Seven labels of each of three clusters that have 4/5, 4/25 and 1/25 of the rows."""
    rng = np.random.RandomState(1)
    y_true = np.repeat([0, 1, 2], [300, 60, 15])
    X = rng.normal(size=(375, 4)) + 3 * np.eye(3, 4)[y_true]
    y = pick_labels(y_true, 7)
    params = {"hidden_layer_sizes": (64,), "max_epochs": 60, "alpha": 3.0}
    clf = make_classifier(**params).fit(X, y)
    equal = make_classifier(class_prior=[1 / 3] * 3, **params).fit(X, y)
    assert clf.score(X, y_true) > 0.9
    assert clf.score(X, y_true) > equal.score(X, y_true) + 0.1


def test_known_shares_of_several_factors_come_in_a_list(blobs, make_classifier):
    X, _, y = blobs
    two = np.column_stack([y, np.where(y < 0, -1, y % 2)])
    shares = [[0.2, 0.3, 0.5], [0.6, 0.4]]
    clf = make_classifier(class_prior=shares).fit(X, two)
    for name, prior, expected in zip("01", clf.class_prior_, shares):
        np.testing.assert_array_equal(prior, expected)
        np.testing.assert_array_equal(clf.net_.criterion_.class_shares[name], [expected])


def test_known_shares_that_are_rounded_are_made_to_sum_to_one(blobs, make_classifier):
    X, _, y = blobs
    for shares in ([0.333333] * 3, np.full(3, 1 / 3, dtype=np.float32)):
        clf = make_classifier(class_prior=shares, shrinkage=0.5).fit(X, y)
        np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1, rtol=1e-12)
        assert len(clf.sample(5)[0]) == 5


def test_weights_do_not_start_from_columns_in_another_order(blobs, make_classifier):
    X, _, y = blobs
    X = pd.DataFrame(X, columns=list("abcde"))
    clf = make_classifier().fit(X, y)
    make_classifier().fit(X, y, init_model=clf)
    with pytest.raises(ValueError, match="other names or in another order"):
        make_classifier().fit(X[list("edcba")], y, init_model=clf)


def test_what_a_model_can_do_is_that_of_its_fit(blobs, make_classifier):
    X, _, y = blobs
    whole = make_classifier().fit(X, y).set_params(alpha=np.inf)
    assert whole.transform(X).shape == (300, 2)
    encoder = make_classifier(alpha=np.inf).fit(X, y).set_params(alpha=1.0)
    for method in ("transform", "score_samples", "sample", "reconstruct"):
        assert not hasattr(encoder, method)


def test_weights_of_zero_leave_no_score(blobs, make_classifier):
    X, _, y_partly = blobs
    clf = make_classifier(max_epochs=1).fit(X, y_partly)
    with pytest.raises(ValueError, match="zero on all labeled rows"):
        clf.score(X, y_partly, sample_weight=(y_partly < 0).astype(float))


def test_consistency_moves_boundaries_to_where_there_are_few_rows(make_classifier):
    """Two long clusters side by side, a label at opposite ends of each."""
    rng = np.random.RandomState(0)
    y_true = np.arange(400) % 2
    X = np.column_stack([rng.uniform(-3, 3, 400), y_true + 0.08 * rng.normal(size=400)])
    ends = np.where(y_true == 1, X[:, 0], -X[:, 0])
    y = np.where(ends > 2.2, y_true, -1)
    params = {"hidden_layer_sizes": (64,), "latent_dim": 8, "learning_rate": 3e-3}
    without, with_it = (
        make_classifier(consistency=consistency, alpha=4.0, max_epochs=150, **params)
        .fit(X, y)
        .score(X, y_true)
        for consistency in (0, 8)
    )
    assert with_it > without + 0.1


def test_weak_clusters_do_not_all_go_to_the_class_that_is_nearest_at_first(make_classifier):
    """Without the warm-up three quarters of the rows are one class in this draw."""
    rng = np.random.RandomState(1)
    y_true = np.arange(600) % 2
    direction = rng.normal(size=241)
    direction *= 2.5 / np.linalg.norm(direction)
    X = rng.normal(size=(600, 241)) + np.outer(y_true - 0.5, direction)
    y = np.where(np.arange(600) < 10, y_true, -1)
    params = {"hidden_layer_sizes": (512, 512), "latent_dim": 32, "batch_size": "auto"}
    clf = make_classifier(max_epochs=10, random_state=1, **params).fit(X, y)
    assert 0.4 < clf.predict(X).mean() < 0.6


def test_where_labels_show_no_clusters_the_classifier_does_without(make_classifier):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(400, 20)) * np.linspace(2, 0.5, 20)
    y_true = (X[:, -5:].sum(axis=1) > 0).astype(int)
    y = np.where(np.arange(400) < 100, y_true, -1)
    # A label counts 12 nats: with more it outvotes the clusters in the second model.
    params = {"hidden_layer_sizes": (64,), "latent_dim": 8, "max_epochs": 50, "alpha": 0.6}
    clf = make_classifier(**params).fit(X, y)
    assert clf.consistency_ == 0
    assert not hasattr(clf, "class_means_")
    believer = make_classifier(consistency=8, prior="class_conditional", **params).fit(X, y)
    assert believer.consistency_ == 8
    accuracy = clf.score(X[100:], y_true[100:])
    assert accuracy > believer.score(X[100:], y_true[100:]) + 0.1


def test_where_labels_are_clusters_or_too_few_the_classifier_relies_on_them(
    blobs, make_classifier
):
    X, y, y_partly = blobs
    shuffled = np.random.RandomState(0).permutation(y)
    few = np.where(np.arange(300) < 30, shuffled, -1)
    for labels in (y, y_partly, few):
        clf = make_classifier(max_epochs=1).fit(X, labels)
        assert clf.consistency_ == 8
        assert hasattr(clf, "class_means_")
    chunk = make_classifier().partial_fit(X, shuffled, classes=[0, 1, 2])
    assert chunk.consistency_ == 8


def test_a_few_unlabeled_rows_need_not_have_the_shares_of_the_classes():
    """Three of them alone cannot, and each for itself even less."""
    X, y = load_wine(return_X_y=True)
    rows = [20, 100, 140]
    clf = SSVAEClassifier(hidden_layer_sizes=64, max_epochs=30, random_state=0)
    clf.fit(X, np.where(np.isin(np.arange(178), rows), -1, y))
    assert clf.consistency_ == 8
    assert clf.predict_proba(X[rows])[[0, 1, 2], y[rows]].min() > 0.8


def test_batches_of_a_few_rows_need_not_have_the_shares_of_the_classes(digits):
    X_train, X_test, y_partly, y_test = digits
    clf = SSVAEClassifier(hidden_layer_sizes=64, batch_size=4, max_epochs=3, random_state=0)
    assert clf.fit(X_train, y_partly).score(X_test, y_test) > 0.8


@pytest.mark.parametrize("marker", [-1, "?", None])
def test_the_marker_among_the_classes_of_a_stream_is_none_of_them(
    marker, blobs, make_classifier
):
    """As in ``classes=np.unique(y)``."""
    X, _, y = blobs
    y = np.where(y < 0, marker, y.astype(str) if marker == "?" else y.astype(object))
    names = [marker, *(["0", "1", "2"] if marker == "?" else [0, 1, 2])]
    clf = make_classifier(unlabeled=marker)
    for _ in range(2):
        clf.partial_fit(X, y, classes=names)
    assert clf.classes_.tolist() == names[1:]


def test_a_chunk_without_labels_teaches_encoder_and_classifier_alone_nothing(
    blobs, make_classifier
):
    X, _, y = blobs
    unlabeled = np.full(300, -1)
    clf = make_classifier(alpha=np.inf)
    with pytest.raises(ValueError, match="the first chunk has none"):
        clf.partial_fit(X, unlabeled, classes=[0, 1, 2])
    clf.partial_fit(X, y, classes=[0, 1, 2])
    before = clf.predict_proba(X)
    assert np.array_equal(clf.partial_fit(X, unlabeled).predict_proba(X), before)
    assert clf.class_count_.tolist() == [10, 10, 10]


def test_a_stream_has_no_early_stopping(blobs, make_classifier, make_detector):
    X, _, y = blobs
    for estimator in (make_classifier(), make_detector()):
        estimator.set_params(early_stopping=True).fit(X, y)
        with pytest.raises(ValueError, match="one epoch, which has nothing to stop"):
            estimator.partial_fit(X, y)


def test_labels_of_another_kind_have_no_score(blobs, make_classifier):
    X, y_true, y = blobs
    clf = make_classifier().fit(X, y)
    with pytest.raises(ValueError, match="mix strings with numbers: '2' is in y"):
        clf.score(X, y_true.astype(str))


def test_the_prior_in_use_is_told(blobs, make_classifier, make_detector):
    X, _, y = blobs
    assert make_classifier().fit(X, y).prior_ == "class_conditional"
    assert make_classifier().fit(X[::4], y[::4]).prior_ == "normal"
    assert make_classifier(alpha=np.inf).fit(X, y).prior_ is None
    det = make_detector(prior="class_conditional")
    assert det.fit(X).prior_ == "normal"  # no class to be conditioned on
    assert det.fit(X, y).prior_ == "class_conditional"


def test_without_a_decoder_nothing_is_consistent(blobs, make_classifier):
    X, _, y = blobs
    assert make_classifier(alpha=np.inf).fit(X, y).consistency_ == 0
