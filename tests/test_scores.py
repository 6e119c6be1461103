"""The anomaly scores: their terms, their calibration, and the rows they compare with."""

import copy
import pickle
import threading

import numpy as np
import pytest
import skops.io
import torch
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback
from torch import nn

from sklearn_ssvae import SSVAEAnomalyDetector
from sklearn_ssvae._scores import (
    calibrate,
    describe_bulk,
    distance_from_bulk,
    mean_distance,
    surprises,
)
from sklearn_ssvae.networks import DenseDecoder

SCORES = ["surprise", "elbo", "log_prob"]


@pytest.fixture(scope="module")
def digits():
    images = load_digits().images / 16
    return images, load_digits().target


class _Trained(Callback):
    """Remember how many rows were trained on."""

    rows = None

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        _Trained.rows = len(X)


# Slow computations


def _hidden(det, X):
    """Compute the hidden layers of a dense network, from the weights alone."""
    module = det.net_.module_
    weights = {name: w.double().cpu().numpy() for name, w in module.state_dict().items()}
    h = X.reshape(len(X), -1)
    if det.likelihood_ != "bernoulli":
        h = (h - weights["shift"]) / weights["scale"]
    hidden = []
    for index in range(0, 2 * len(det.hidden_layer_sizes), 2):
        w, b = (weights[f"encoder.layers.{index}.{part}"] for part in ("weight", "bias"))
        h = np.maximum(h @ w.T + b, 0)
        hidden.append(h)
    return hidden, weights


def _features(det, X):
    """Hidden layers side by side, each vector divided by the root of its length."""
    return np.hstack(
        [h / np.sqrt(np.linalg.norm(h, axis=1))[:, None] for h in _hidden(det, X)[0]]
    )


def _distance(det, X):
    """Mean distance to the five nearest reference rows other than the row itself."""
    reference = _features(det, det.reference_X_)
    means = []
    for row in _features(det, X):
        distances = sorted(np.sqrt(((row - reference) ** 2).sum(axis=1)))
        if distances[0] < 1e-6:
            distances = distances[1:]
        means.append(np.mean(distances[:5]))
    return np.array(means)


def _elbo(det, X):
    """Log-probability less KL divergence, the divergence by the textbook formula."""
    hidden, weights = _hidden(det, X)
    mean = hidden[-1] @ weights["mean.weight"].T + weights["mean.bias"]
    log_var = hidden[-1] @ weights["log_var.weight"].T + weights["log_var.bias"]
    kl = 0.5 * (mean**2 + np.exp(log_var) - log_var - 1).sum(axis=1)
    return det.score_features(X).reshape(len(X), -1).sum(axis=1) - kl


def _surprise(term, of_normal):
    """Surprise under the logistic distribution with the same median and 90 % quantile."""
    median, high = np.quantile(of_normal, [0.5, 0.9])
    z = (term - median) / (high - median) * np.log(9)
    return -np.log(1 / (1 + np.exp(z)))


def _far(det, X, normal, distance=_distance):
    d, of_normal = distance(det, X), distance(det, normal)
    floor = 1e-3 * of_normal.mean()
    return _surprise(np.log(d + floor), np.log(of_normal + floor))


def _from_bulk(det, X):
    """Mahalanobis distance from the bulk, row by row."""
    reference = _features(det, det.reference_X_)
    middle = reference.mean(axis=0)
    directions = np.linalg.svd(reference - middle)[2][:10]
    rows = (reference - middle) @ directions.T
    bulk = rows
    for _ in range(11):
        covariance = np.cov(bulk.T, bias=True)
        covariance += 0.03 * np.trace(covariance) / 10 * np.eye(10)
        center, precision = bulk.mean(axis=0), np.linalg.inv(covariance)
        squares = [(row - center) @ precision @ (row - center) for row in rows]
        bulk = rows[squares <= np.quantile(squares, 0.9)]
    differences = (_features(det, X) - middle) @ directions.T - center
    return np.sqrt([d @ precision @ d for d in differences])


def _table_surprise(det, X, normal):
    """Surprise of a table's rows without labels."""
    far = np.maximum(_far(det, X, normal), _far(det, X, normal, _from_bulk))
    return _surprise(-_elbo(det, X), -_elbo(det, normal)) + far


def _log_pi(det, X):
    """Logarithm of pi, of all its classes."""
    hidden, weights = _hidden(det, X)
    return log_softmax(hidden[-1] @ weights["pi.0.weight"].T + weights["pi.0.bias"], axis=1)


def _doubt(log_pi):
    return np.log(-log_pi.max(axis=1) + 1e-12)


def _odds(det, X, normal, n_normal=1):
    """Odds of the classes beyond the normal ones, by the median of normal rows."""
    odds = [
        pi[:, n_normal:].sum(axis=1) / pi[:, :n_normal].sum(axis=1)
        for pi in (np.exp(_log_pi(det, rows)) for rows in (X, normal))
    ]
    return odds[0] / np.median(odds[1])


# Terms


def test_the_score_of_a_table_is_error_and_neighbors_or_bulk(blobs, make_detector):
    X, *_ = blobs
    det = make_detector(hidden_layer_sizes=(16, 8)).fit(X)
    normal = det.reference_X_
    assert len(normal) == len(X)
    expected = _table_surprise(det, X, normal)
    np.testing.assert_allclose(det.score_samples(X), -expected, rtol=1e-5)


def test_kinds_add_the_doubt_about_them(blobs, make_detector):
    X, _, y = blobs
    det = make_detector().fit(X, y)
    normal = det.reference_X_

    expected = _table_surprise(det, X, normal)
    expected += _surprise(_doubt(_log_pi(det, X)), _doubt(_log_pi(det, normal)))
    np.testing.assert_allclose(det.score_samples(X), -expected, rtol=1e-5)


def test_neighbors_alone_count_where_every_row_has_a_kind(blobs, make_detector):
    X, *_ = blobs
    det = make_detector().fit(X, np.zeros(300))
    expected = _surprise(-_elbo(det, X), -_elbo(det, det.reference_X_))
    expected += _far(det, X, det.reference_X_)
    np.testing.assert_allclose(det.score_samples(X), -expected, rtol=1e-5)


def test_a_kind_does_not_vouch_for_rows_whose_defect_is_not_known(blobs, make_detector):
    X, y_true, _ = blobs
    spoilt = np.where(y_true == 2, "spoilt", "fine").astype(object)
    for unknown in (False, True):
        spoilt[np.flatnonzero(y_true == 0)[0]] = "?" if unknown else "fine"
        kinds = np.column_stack([np.where(y_true == 2, "?", "a").astype(object), spoilt])
        det = make_detector(unlabeled="?", anomaly_labels="spoilt").fit(X, kinds)
        assert det._may_hide_anomalies == unknown


def test_chunks_may_begin_with_another_score(blobs, make_detector):
    X, *_ = blobs
    det = make_detector(anomaly_score="log_prob", anomaly_labels=1).partial_fit(X)
    before = det.score_samples(X)
    det.set_params(anomaly_score="surprise", learning_rate=1e-30)
    det.partial_fit(X[:5], np.ones(5))
    np.testing.assert_allclose(det.score_samples(X), before)
    det.partial_fit(X, np.zeros(300))
    expected = _table_surprise(det, X, X) + np.log1p(_odds(det, X, X))
    np.testing.assert_allclose(det.score_samples(X), -expected, rtol=1e-5)


def test_one_row_that_nobody_vouched_for_brings_the_bulk_back(blobs, make_detector):
    X, *_ = blobs
    det = make_detector().partial_fit(X, np.zeros(300))
    for y in ([0, -1], [0, 0]):
        det.partial_fit(X[:2] + 0.1, y)
        expected = _table_surprise(det, X, det.reference_X_)
        np.testing.assert_allclose(det.score_samples(X), -expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kinds", "anomaly_labels"),
    [([], [2, 3]), ([0], [2, 3]), ([0, 1], [2, 3]), ([0, 1, 2], [3])],
)
def test_known_anomalies_add_the_logarithm_of_their_odds(
    kinds, anomaly_labels, blobs, make_detector
):
    """Beside the doubt about the kind if there are several."""
    X, y_true, y = blobs
    y = np.where(y_true == 2, np.where(np.arange(300) % 2, 2, 3), y)
    y = np.where(np.isin(y, kinds + anomaly_labels), y, -1)
    det = make_detector(anomaly_labels=anomaly_labels, max_epochs=20).fit(X, y)
    n_normal = max(len(kinds), 1)  # without kinds all other rows are the contrast
    expected = _table_surprise(det, X, det.reference_X_)
    expected += np.log1p(_odds(det, X, det.reference_X_, n_normal))
    if n_normal > 1:
        of_normal = (_log_pi(det, rows)[:, :n_normal] for rows in (X, det.reference_X_))
        expected += _surprise(*(_doubt(log_softmax(each, axis=1)) for each in of_normal))
    np.testing.assert_allclose(det.score_samples(X), -expected, rtol=1e-5)


def test_a_few_rows_that_lie_together_neither_move_nor_widen_the_bulk():
    rng = np.random.RandomState(0)
    normal = rng.normal(size=(960, 6))
    clump = [8, 0, 0, 0, 0, 0] + 0.1 * rng.normal(size=(40, 6))
    with_clump, without = (
        describe_bulk(rows, np.eye(6)) for rows in (np.vstack([normal, clump]), normal)
    )
    np.testing.assert_allclose(with_clump[0], without[0], atol=0.1)
    far = [distance_from_bulk(clump, bulk) for bulk in (with_clump, without)]
    np.testing.assert_allclose(*far, rtol=0.1)


def test_anomalies_among_the_rows_that_lie_together_are_found(make_detector):
    """They are one another's neighbors, and are learned; but far from where the others are."""
    rng = np.random.RandomState(0)
    normal = rng.normal(size=(560, 2)) @ rng.normal(size=(2, 6))
    clump = 2.5 * normal.std(axis=0) * [1, -1, 1, -1, 1, -1] + np.zeros((40, 6))
    X = np.vstack([normal, clump]) + 0.3 * rng.normal(size=(600, 6))
    det = make_detector(hidden_layer_sizes=(64, 32), max_epochs=100).fit(X)
    assert roc_auc_score(np.arange(600) < 560, det.score_samples(X)) > 0.95


def test_the_error_of_an_image_is_seen_against_its_hardness(digits, make_detector):
    images = digits[0][:400]
    det = make_detector(max_epochs=3).fit(images)
    normal = det.reference_X_.reshape(-1, 8, 8)

    def error_and_hardness(rows):
        out = []
        for x, mean in zip(rows, det.reconstruct(rows)):
            variation = sum(
                abs(x[i, j] - x[i - di, j - dj])
                for di, dj in ((1, 0), (0, 1))
                for i in range(di, 8)
                for j in range(dj, 8)
            )
            out.append([((x - mean) ** 2).sum(), 64 * x.var(), variation])
        return np.log(out)

    a, b = error_and_hardness(images), error_and_hardness(normal)
    design = np.column_stack([np.ones(len(b)), b[:, 1:]])
    weights = np.linalg.lstsq(design, b[:, 0])[0]
    left = [m[:, 0] - np.column_stack([np.ones(len(m)), m[:, 1:]]) @ weights for m in (a, b)]
    expected = _surprise(*left) + _far(det, images, normal)
    np.testing.assert_allclose(det.score_samples(images), -expected, rtol=1e-5)


def test_an_image_is_not_normal_for_being_simple(digits, make_detector):
    """Ones, of few strokes, are left out of the training."""
    images, kinds = digits
    auc = {}
    for score in ("surprise", "log_prob"):
        det = make_detector(
            anomaly_score=score, hidden_layer_sizes=(64, 64), latent_dim=8, max_epochs=40
        ).fit(images[:1000][kinds[:1000] != 1])
        scores = det.score_samples(images[1000:])
        auc[score] = roc_auc_score(kinds[1000:] != 1, scores)
    assert auc["surprise"] > max(0.9, auc["log_prob"])


def test_the_elbo_is_the_log_probability_less_the_divergence(blobs, make_detector):
    X, *_ = blobs
    det = make_detector(anomaly_score="elbo").fit(X)
    np.testing.assert_allclose(det.score_samples(X), _elbo(det, X), rtol=1e-5)


def test_a_row_like_a_known_anomaly_is_surprising_however_sure_pi_is(blobs, make_detector):
    X, y_true, y = blobs
    y = np.where(y_true == 2, 2, y)
    det = make_detector(anomaly_labels=[2], max_epochs=80, alpha=1.0).fit(X, y)
    scores = det.score_samples(X)
    assert scores[y_true == 2].mean() < scores[y_true != 2].mean() - 5


# Calibration


def test_the_middle_row_and_the_highest_tenth_are_where_they_belong():
    rng = np.random.RandomState(0)
    measures = np.column_stack([rng.normal(size=2001), np.zeros((2001, 2)), rng.rand(2001)])
    distances = rng.gamma(2.0, size=(2001, 1))
    found = surprises(measures, distances, calibrate(measures, distances))
    assert found.shape == (2001, 3)
    assert (found > 0).all()
    np.testing.assert_allclose(np.median(found, axis=0), np.log(2))
    np.testing.assert_allclose(np.quantile(found, 0.9, axis=0), np.log(10))


def test_of_two_distances_the_one_that_surprises_more_counts():
    rng = np.random.RandomState(0)
    measures, distances = rng.normal(size=(500, 3)), rng.gamma(2.0, size=(500, 2))
    both = surprises(measures, distances, calibrate(measures, distances))
    each = [
        surprises(measures, column[:, None], calibrate(measures, column[:, None]))[:, 1]
        for column in distances.T
    ]
    np.testing.assert_allclose(both[:, 1], np.maximum(*each))


def test_terms_that_hardly_vary_stay_finite_and_small():
    measures, distances = np.zeros((20, 4)), np.zeros((20, 1))
    calibration = calibrate(measures, distances)
    found = surprises(measures, distances, calibration)
    np.testing.assert_allclose(found, np.log(2))
    far = surprises(measures + np.eye(4)[0], distances, calibration)
    assert np.isfinite(far).all()


def test_a_row_is_no_neighbor_of_its_own():
    distances = np.array([[3.0, 0.0, 1.0, 2.0], [4.0, 1.0, 2.0, 3.0]])
    assert mean_distance(distances, np.ones(2)).tolist() == [2.0, 2.0]
    assert mean_distance(np.array([[0.5]]), np.ones(1)).tolist() == [0.5]


@pytest.mark.parametrize(
    ("score", "n_rows", "n_trained"),
    [
        ("surprise", 600, 540),
        ("surprise", 499, 499),
        ("surprise", 12_000, 11_000),
        ("elbo", 600, 600),
        ("log_prob", 600, 600),
    ],
)
def test_a_tenth_of_the_rows_calibrates(score, n_rows, n_trained, make_detector):
    X = np.random.RandomState(0).normal(size=(n_rows, 3))
    det = make_detector(
        anomaly_score=score, max_epochs=1, batch_size=1000, callbacks=[_Trained]
    ).fit(X)
    assert _Trained.rows == n_trained
    if score == "surprise":
        assert len(det.reference_X_) == min(n_trained, 3000)
    else:
        assert not hasattr(det, "reference_X_")


def test_unlabeled_rows_calibrate_if_they_are_the_most(make_detector):
    X = np.random.RandomState(0).normal(size=(1000, 3))
    y = np.where(np.arange(1000) < 300, np.arange(1000) % 3, -1)
    det = make_detector(max_epochs=1).fit(X, y)
    known = {row.tobytes() for row in det.reference_X_}
    assert all(row.tobytes() in known for row in X[:300])
    assert len(det.reference_X_) == 900


def test_a_class_of_one_row_is_trained_on(make_detector):
    X = np.random.RandomState(0).normal(size=(1000, 3))
    det = make_detector(max_epochs=1).fit(X, np.append(np.arange(500), np.arange(500)))
    assert len(det.reference_X_) == 900
    at_hand = {row.tobytes() for row in det.reference_X_}
    assert all(row.tobytes() in at_hand for row in X[:500])


def test_known_anomalies_are_not_compared_with(make_detector):
    X = np.random.RandomState(0).normal(size=(1000, 3))
    y = np.where(np.arange(1000) < 200, "odd", "?").astype(object)
    for kinds in (y, np.where(np.arange(1000) > 500, "a", y)):
        det = make_detector(max_epochs=1, unlabeled="?", anomaly_labels=["odd"]).fit(X, kinds)
        known = {row.tobytes() for row in det.reference_X_}
        assert not any(row.tobytes() in known for row in X[:200])
        assert len(det.reference_X_) == 720


# Reference rows


def test_chunks_share_the_reference_rows(make_detector, monkeypatch):
    monkeypatch.setattr("sklearn_ssvae._anomaly.MAX_REFERENCE", 120)
    X = np.random.RandomState(0).normal(size=(400, 3)) + np.repeat(np.arange(4), 100)[:, None]
    det = make_detector()
    for _ in range(2):
        for chunk in np.array_split(X, 4):
            det.partial_fit(chunk)
    assert det.reference_X_.shape == (120, 3)
    assert len(np.unique(det.reference_X_, axis=0)) == 120
    at_hand = {row.tobytes() for row in det.reference_X_}
    counts = [sum(row.tobytes() in at_hand for row in chunk) for chunk in np.array_split(X, 4)]
    assert min(counts) > 10
    assert len(det.fit(X[:50]).reference_X_) == 50


def test_the_first_chunk_may_be_two_rows(make_detector):
    det = make_detector().partial_fit(np.eye(3)[:2])
    assert np.isfinite(det.partial_fit(np.ones((1, 3))).score_samples(np.eye(3))).all()
    assert len(det.reference_X_) == 3


@pytest.mark.parametrize("score", SCORES)
def test_rows_stored_in_float32_have_the_same_scores(score, blobs, make_detector):
    X, *_ = blobs
    det = make_detector(anomaly_score=score, max_epochs=30).fit(X)
    again = X.astype(np.float32)
    np.testing.assert_allclose(det.score_samples(again), det.score_samples(X), atol=1e-3)
    assert np.array_equal(det.predict(again), det.predict(X))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("likelihood", ["gaussian", "heteroscedastic_gaussian"])
def test_a_row_that_overflows_is_abnormal_and_harms_no_other(score, likelihood, make_detector):
    """-3.4e38 stands for missing values in raster images; convolutions are in float32."""
    X = np.random.RandomState(0).uniform(size=(120, 8, 8))
    params = {"network": "conv", "likelihood": likelihood, "anomaly_score": score}
    det = make_detector(**params, max_epochs=1).fit(X)
    rows = X[:3].copy()
    rows[0, 0, 0] = -3.4e38
    for _ in range(2):
        scores = det.score_samples(rows)
        assert scores[0] == -np.inf
        assert np.array_equal(scores[1:], det.score_samples(X[1:3]))
        assert det.predict(rows)[0] == -1
        det.fit_feedback(X, X_feedback=X[:2], verdicts=["false_positive"] * 2)
    assert not np.isnan(det.score_features(rows)).any()


def test_rows_that_repeat_have_finite_scores(make_detector):
    X = np.repeat([[0.0, 1.0, 2.0], [3.0, 1.0, 0.0]], 300, axis=0)
    scores = make_detector().fit(X).score_samples(np.vstack([X[:1], X[-1:] + 5]))
    assert np.isfinite(scores).all()
    assert scores[1] < scores[0]


def test_false_positives_join_the_reference_rows(blobs, make_detector):
    X, *_ = blobs
    judged = X[:3] + 5 * X.std(axis=0)
    det = make_detector().fit(X)
    verdicts = ["false_positive"] * 2 + ["false_negative"]
    det.fit_feedback(X, X_feedback=judged, verdicts=verdicts)
    assert np.array_equal(det.reference_X_[-2:], judged[:2])
    assert len(det.partial_fit(X).reference_X_) == 302


# The detector with each score


@pytest.mark.parametrize("score", SCORES)
def test_a_row_has_one_score_in_any_company(score, make_detector):
    X = np.random.RandomState(0).normal(size=(3000, 7))
    det = make_detector(anomaly_score=score, max_epochs=1, hidden_layer_sizes=(33, 17)).fit(X)
    scores = det.score_samples(X)
    some = np.random.RandomState(0).permutation(len(X))[:1100]
    np.testing.assert_allclose(det.score_samples(X[some]), scores[some], rtol=1e-9)
    one = [det.score_samples(X[i : i + 1])[0] for i in some[:5]]
    np.testing.assert_allclose(one, scores[some[:5]], rtol=1e-9)
    assert np.array_equal(det.score_samples(X), scores)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("contamination", [0.05, "auto"])
def test_the_threshold_fits_the_score(score, contamination, blobs, make_detector):
    X, *_ = blobs
    det = make_detector(anomaly_score=score, contamination=contamination).fit(X)
    flagged = (det.predict(X) == -1).mean()
    assert flagged == 0.05 if contamination == 0.05 else flagged < 0.1
    assert det.predict(X.mean(axis=0, keepdims=True) + 30 * X.std(axis=0)) == -1


@pytest.mark.parametrize("score", SCORES)
def test_a_copy_scores_the_same(score, blobs, make_detector):
    X, _, y = blobs
    det = make_detector(anomaly_score=score).fit(X, y)
    expected = det.score_samples(X)
    for other in (pickle.loads(pickle.dumps(det)), copy.deepcopy(det)):
        assert np.array_equal(other.score_samples(X), expected)
    name = f"{SSVAEAnomalyDetector.__module__}.{SSVAEAnomalyDetector.__name__}"
    data = skops.io.dumps(det)
    assert skops.io.get_untrusted_types(data=data) == [name]
    assert np.array_equal(skops.io.loads(data, trusted=[name]).score_samples(X), expected)


def test_the_score_set_after_fit_waits_for_the_next_fit(blobs, make_detector):
    X, *_ = blobs
    det = make_detector(anomaly_score="log_prob").fit(X)
    before = det.score_samples(X)
    det.set_params(anomaly_score="surprise")
    assert np.array_equal(det.score_samples(X), before)
    assert (det.fit(X).score_samples(X) < 0).all()
    det.set_params(anomaly_score="elbo", warm_start=True).fit(X)
    assert not hasattr(det, "reference_X_")


@pytest.mark.parametrize("score", SCORES)
def test_feedback_changes_every_score(score, make_detector):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(400, 4))
    odd = [4.0, -4.0, 4.0, 0.0] + 0.1 * rng.normal(size=(30, 4))
    det = make_detector(
        anomaly_score=score, contamination=0.05, alpha=1.0, max_epochs=40, learning_rate=0.005
    ).fit(X)
    assert (det.predict(odd) == -1).all()
    det.fit_feedback(X, X_feedback=odd[:15], verdicts=["false_positive"] * 15)
    assert (det.predict(odd[15:]) == 1).mean() > 0.9


def test_threads_do_not_see_one_anothers_features(make_detector):
    X = np.random.RandomState(0).normal(size=(4000, 5))
    det = make_detector(max_epochs=1).fit(X[:300])
    expected, found = det.score_samples(X), {}

    def score(part):
        found[part] = det.score_samples(X[1000 * part : 1000 * (part + 1)])

    threads = [threading.Thread(target=score, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.concatenate([found[i] for i in range(4)]), expected)


# Other networks


class _OwnEncoder(nn.Module):
    def __init__(self, input_shape, hidden_layer_sizes):
        super().__init__()
        self.first = nn.Linear(int(np.prod(input_shape)), hidden_layer_sizes[0])
        self.n_out = hidden_layer_sizes[0]

    def forward(self, x):
        return torch.tanh(self.first(x.flatten(1)))


@pytest.mark.parametrize(
    ("params", "n_hidden"),
    [
        ({"network": "dense", "hidden_layer_sizes": (9, 5)}, 14),
        ({"network": "conv", "hidden_layer_sizes": (7, 6)}, 13),
        ({"network": "recurrent", "hidden_layer_sizes": (6, 5, 4)}, 10),
        ({"network": (_OwnEncoder, DenseDecoder), "hidden_layer_sizes": (7,)}, 7),
    ],
)
def test_every_network_has_hidden_features(params, n_hidden, digits, make_detector):
    images, kinds = digits
    det = make_detector(max_epochs=1, **params).fit(images[:100], kinds[:100])
    scores = det.score_samples(images[:200])
    assert np.isfinite(scores).all()
    assert det._neighbors[0].shape == (100, n_hidden)
    np.testing.assert_allclose(det.score_samples(images[50:60]), scores[50:60], rtol=1e-9)
