import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback

from sklearn_ssvae import SSVAEClassifier


@pytest.fixture(scope="module")
def line():
    """Rows along a line in four columns; anomalies have the columns of other rows."""
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, 600)[:, None] * [1.0, -2.0, 3.0, 0.5]
    X += 0.1 * rng.normal(size=X.shape)
    odd = np.column_stack([rng.permutation(column)[:50] for column in X.T])
    return X[:400], X[400:], odd


def _auc(det, normal, odd):
    scores = det.score_samples(np.vstack([normal, odd]))
    return roc_auc_score(np.r_[np.ones(len(normal)), np.zeros(len(odd))], scores)


def test_rows_that_break_the_correlation_are_abnormal(line, make_detector):
    """Each of their columns alone is ordinary."""
    train, normal, odd = line
    det = make_detector(latent_dim=1, max_epochs=100).fit(train)
    assert _auc(det, normal, odd) > 0.9


@pytest.mark.parametrize("score", ["surprise", "elbo", "log_prob"])
def test_a_constant_column_that_changes_is_abnormal(score, line, make_detector):
    train, normal, _ = line
    det = make_detector(anomaly_score=score).fit(np.column_stack([train, np.full(400, 7.0)]))
    normal = np.column_stack([normal, np.full(200, 7.0)])
    odd = normal.copy()
    odd[:, -1] = 8
    assert _auc(det, normal, odd) > 0.99
    assert (det.score_features(odd).argmin(axis=1) == 4).all()


def test_variances_of_constant_columns_alone_are_fitted_to_normal_rows(
    line, make_detector, expected_variance
):
    train, _, odd = line
    X = np.column_stack([np.vstack([train, odd]), np.repeat([7.0, 17.0], [400, 50])])
    params = {"average": False, "warm_start": True, "anomaly_score": "log_prob"}
    det = make_detector(anomaly_labels=1, **params).fit(X, np.repeat([-1, 1], [400, 50]))
    variance = det.net_.inference_module.likelihood.variance()
    np.testing.assert_allclose(variance[4], expected_variance(det, X[:400])[4], rtol=0.3)
    assert variance[4] < 0.1 * expected_variance(det, X)[4]
    raw = det.net_.module_.likelihood.raw_log_var
    trained = det.net_.training_state()["unaveraged"]["likelihood.raw_log_var"]
    assert (raw[:4] == trained[:4]).all()
    assert raw[4] != trained[4]


def test_the_staircase_of_scores(blobs, make_detector):
    X, *_ = blobs
    det = make_detector().fit(X)
    scores = det.score_samples(X)
    assert scores.dtype == np.float64
    assert np.array_equal(det.decision_function(X), scores - det.offset_)
    assert np.array_equal(det.predict(X), np.where(scores < det.offset_, -1, 1))


@pytest.mark.parametrize("likelihood", ["gaussian", "heteroscedastic_gaussian"])
def test_feature_scores_sum_to_the_score(likelihood, blobs, make_detector):
    X, *_ = blobs
    det = make_detector(likelihood=likelihood, anomaly_score="log_prob").fit(X)
    features = det.score_features(X)
    assert features.shape == X.shape
    np.testing.assert_allclose(features.sum(1), det.score_samples(X))


def test_feature_scores_of_images_are_images(make_detector):
    images = load_digits().images / 16
    det = make_detector(max_epochs=1, anomaly_score="log_prob").fit(images)
    features = det.score_features(images[:3])
    assert features.shape == (3, 8, 8)
    np.testing.assert_allclose(features.sum((1, 2)), det.score_samples(images[:3]))


def test_the_feature_that_was_changed_has_the_lowest_score(blobs, make_detector):
    X, *_ = blobs
    det = make_detector(max_epochs=30).fit(X)
    changed = X[:50].copy()
    changed[:, 3] += 20 * X[:, 3].std()
    assert (det.score_features(changed).argmin(axis=1) == 3).mean() > 0.9


def test_scores_are_log_densities_of_the_decoded_normal(blobs, make_detector):
    """Compared with scipy on the reconstruction and the learned spread."""
    from scipy.stats import norm

    X, *_ = blobs
    det = make_detector(max_epochs=20, device="cpu").fit(X)
    module = det.net_.inference_module
    variance = 1e-4 + np.exp(module.likelihood.raw_log_var.numpy())
    spread = np.sqrt(variance) * X.std(axis=0)
    expected = norm(det.reconstruct(X), spread).logpdf(X)
    np.testing.assert_allclose(det.score_features(X), expected, rtol=1e-6)


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.5])
def test_contamination_is_the_share_of_flagged_training_rows(
    contamination, blobs, make_detector
):
    X, *_ = blobs
    verdicts = make_detector(contamination=contamination).fit_predict(X)
    assert (verdicts == -1).sum() == round(contamination * len(X))


def test_automatic_contamination_is_the_fence_of_a_box_plot(blobs, make_detector):
    X, *_ = blobs
    det = make_detector().fit(X)
    low, high = np.quantile(det.score_samples(X), [0.25, 0.75])
    assert det.offset_ == pytest.approx(low - 1.5 * (high - low))


def test_automatic_contamination_finds_planted_rows(blobs, make_detector):
    X, *_ = blobs
    planted = X[:15] + 30 * X.std(axis=0) * np.sign(
        np.random.RandomState(0).normal(size=(15, 5))
    )
    verdicts = make_detector(max_epochs=50).fit(X).predict(np.vstack([X, planted]))
    assert (verdicts[-15:] == -1).all()
    assert (verdicts[:300] == -1).mean() < 0.05


def test_fit_predict_uses_the_kinds(blobs, make_detector):
    X, _, y = blobs
    det = make_detector()
    with_kinds = det.fit_predict(X, y)
    assert det.classes_.tolist() == [0, 1, 2]
    assert np.array_equal(with_kinds, det.predict(X))
    assert "cross_entropy" in det.history_


def test_without_kinds_there_is_no_pi_head(blobs, make_detector):
    X, _, y = blobs
    det = make_detector()
    for unlabeled in (None, np.full(300, -1), np.where(y == 0, 0, -1)):
        det.fit(X, unlabeled)
        assert set(det.history_) == {"loss", "log_prob", "kl_divergence"}
        assert det.sample(2)[1] is None


def test_alpha_zero_is_the_model_without_a_pi_head(blobs, make_detector):
    X, _, y = blobs
    ignored = make_detector(alpha=0).fit(X, y)
    plain = make_detector().fit(X)
    assert np.array_equal(ignored.score_samples(X), plain.score_samples(X))


def test_samples_by_kind(blobs, make_detector):
    X, y_true, y = blobs
    det = make_detector(max_epochs=100).fit(X, y)
    for kind in range(3):
        drawn, kinds = det.sample(200, y=kind, random_state=0)
        assert (kinds == kind).all()
        distance = [
            (((drawn.mean(0) - X[y_true == k].mean(0)) / X.std(0)) ** 2).sum()
            for k in range(3)
        ]
        assert np.argmin(distance) == kind


@pytest.fixture
def frauds(blobs):
    """Add a fourth cluster to the blobs, of known and unknown anomalies."""
    X, _, y = blobs
    rng = np.random.RandomState(1)
    odd = X.mean(0) + X.std(0) * (np.r_[0, 0, 2.5, 0, 0] + 0.3 * rng.normal(size=(60, 5)))
    labels = np.array(["a", "b", "c", "?"], dtype=object)[y]
    known = np.r_[np.full(30, "fraud"), np.full(30, "?")].astype(object)
    return np.vstack([X, odd]), np.r_[labels, known]


def test_declared_anomalies_score_lower_than_as_unlabeled_rows(frauds, make_detector):
    X, y = frauds
    params = {"unlabeled": "?", "max_epochs": 80}
    hidden = make_detector(**params).fit(X, np.where(y == "fraud", "?", y))
    declared = make_detector(**params, anomaly_labels=["fraud"]).fit(X, y)
    assert declared.classes_.tolist() == ["a", "b", "c", "fraud"]
    normal, new_frauds = X[:300], X[330:]
    assert _auc(declared, normal, new_frauds) > _auc(hidden, normal, new_frauds)


@pytest.fixture
def noting():
    """Make a callback that notes batches, and a function that tells the codes of rows."""
    batches = []

    class NoteBatches(Callback):
        def on_batch_end(self, net, batch, **kwargs):
            batches.append([part.numpy() for part in batch])

    def codes_of(X):
        rows, codes = map(np.concatenate, zip(*batches))
        batches.clear()
        return [codes[(rows == x).all(axis=1)] for x in X]

    return NoteBatches(), codes_of


@pytest.fixture
def only_frauds(frauds):
    """Keep of the labels those of the known anomalies."""
    X, y = frauds
    return X, np.where(y == "fraud", y, "?")


def test_known_anomalies_alone_are_told_from_all_other_rows(only_frauds, make_detector):
    """Though half of the anomalies are among these; `alpha=0` merely leaves them out."""
    X, y = only_frauds
    params = {"unlabeled": "?", "anomaly_labels": "fraud", "max_epochs": 40, "random_state": 2}
    aucs = [
        _auc(make_detector(**params, alpha=alpha).fit(X, y), X[:300], X[330:])
        for alpha in (0, "auto")
    ]
    assert aucs[0] < 0.7
    assert aucs[1] > 0.9


def test_known_anomalies_alone_stay_out_of_the_density(only_frauds, make_detector):
    """They score about as far below normal rows as if there had been none in training."""
    X, y = (part[:330] for part in only_frauds)
    params = {"unlabeled": "?", "max_epochs": 60, "anomaly_score": "log_prob"}

    def gap(det):
        scores = det.score_samples(X)
        return scores[:300].mean() - scores[300:].mean()

    hidden = gap(make_detector(**params).fit(X))
    without = gap(make_detector(**params).fit(X[:300]))
    declared = gap(make_detector(**params, anomaly_labels="fraud").fit(X, y))
    assert declared == pytest.approx(without, abs=(without - hidden) / 2)


def test_alpha_zero_trains_on_no_known_anomaly(only_frauds, make_detector, noting):
    X, y = only_frauds
    callback, codes_of = noting
    det = make_detector(unlabeled="?", anomaly_labels="fraud", alpha=0, callbacks=[callback])
    det.set_params(anomaly_score="log_prob").fit(X, y)
    assert [len(codes) for codes in codes_of(X[295:305])] == 5 * [5] + 5 * [0]


def test_the_contrast_to_known_anomalies_is_no_class(only_frauds, make_detector):
    X, y = only_frauds
    for prior in ("normal", "class_conditional"):
        det = make_detector(unlabeled="?", anomaly_labels="fraud", prior=prior).fit(X, y)
        assert det.classes_.tolist() == ["fraud"]
        assert det.class_count_.tolist() == [30]
        assert det.prior_ == "normal"
        assert det.sample(2)[1] is None
        with pytest.raises(ValueError, match="so none can be asked for"):
            det.sample(1, y="fraud")


def test_a_factor_may_have_known_anomalies_alone(blobs, make_detector, noting):
    """All other rows are their contrast, but for those that were judged to be anomalies."""
    X, y, _ = blobs
    odd = np.arange(300) >= 250
    factors = np.column_stack([np.where(y == 0, 0, 1), np.where(odd, 7, -1)])
    callback, codes_of = noting
    det = make_detector(anomaly_labels=7, callbacks=[callback])
    det.set_params(anomaly_score="log_prob").fit(X, factors)
    assert [classes.tolist() for classes in det.classes_] == [[0, 1], [7]]
    kinds = det.sample(50)[1]
    assert set(kinds.tolist()) == {0, 1}
    assert [set(codes[:, 1]) for codes in codes_of(X[[0, 5, 299]])] == [{0}, {0}, {1}]
    det.fit_feedback(X, factors, X_feedback=X[:5], verdicts=["false_negative"] * 5)
    assert [codes[-1, 1] for codes in codes_of(X[[0, 5, 299]])] == [-1, 0, 1]


def test_kinds_join_known_anomalies_later(only_frauds, frauds, make_detector):
    X, y = only_frauds
    det = make_detector(unlabeled="?", anomaly_labels="fraud").partial_fit(X, y)
    before = det.net_.module_.pi["0"].weight[1].clone()
    det.set_params(learning_rate=1e-30).partial_fit(*frauds)
    assert det.classes_.tolist() == ["a", "b", "c", "fraud"]
    assert (det.net_.module_.pi["0"].weight[3] == before).all()


def test_a_chunk_of_known_anomalies_alone_is_learned(only_frauds, make_detector):
    X, y = only_frauds
    det = make_detector(unlabeled="?", anomaly_labels="fraud").partial_fit(X, y)
    offset, rows = det.offset_, det.reference_X_.copy()
    odd = X[y == "fraud"] + 0.1
    before = det.score_samples(odd)
    det.partial_fit(odd, np.full(len(odd), "fraud"))
    assert det.offset_ == offset
    assert np.array_equal(det.reference_X_, rows)
    assert det.class_count_.tolist() == [2 * len(odd)]
    assert np.isfinite(det.score_samples(X)).all()
    assert (det.score_samples(odd) != before).all()
    with pytest.raises(ValueError, match="Every row is an anomaly"):
        make_detector(anomaly_labels="fraud").partial_fit(odd, np.full(len(odd), "fraud"))


def test_pi_is_made_consistent_where_it_learns_known_anomalies(
    frauds, only_frauds, make_detector
):
    X, y = frauds
    params = {"unlabeled": "?", "max_epochs": 1}
    assert make_detector(**params).fit(X, np.where(y == "fraud", "?", y)).consistency_ == 0
    for X, y in (frauds, only_frauds):
        det = make_detector(**params, anomaly_labels="fraud").fit(X, y)
        assert det.consistency_ == 8
        assert "inconsistency" in det.history_
        assert det.set_params(alpha=0).fit(X, y).consistency_ == 0


def test_a_declared_label_that_no_row_has_warns(frauds, make_detector):
    X, y = frauds
    det = make_detector(unlabeled="?", anomaly_labels="fruad", max_epochs=1)
    with pytest.warns(UserWarning, match=r"names \['fruad'\], which no row .*'c', 'fraud'\]"):
        det.fit(X, y)


def test_alpha_zero_does_not_read_verdicts(blobs, make_detector):
    """As for scikit-learn's detectors, with which y only scores a cross-validation."""
    X, y, _ = blobs
    verdicts = np.where(y == 0, -1, 1)
    det = make_detector(alpha=0)
    scores = det.fit(X, verdicts).score_samples(X)
    assert np.array_equal(scores, make_detector(alpha=0).fit(X).score_samples(X))
    assert np.isfinite(cross_val_score(det, X, verdicts, scoring="roc_auc", cv=2)).all()


def test_verdicts_can_be_declared(blobs, make_detector):
    X, *_ = blobs
    y = np.where(np.arange(300) < 20, -1, 1)
    det = make_detector(unlabeled=None, anomaly_labels=[-1]).fit(X, y)
    assert det.classes_.tolist() == [1, -1]


def test_the_decoder_does_not_know_anomalies(frauds, make_detector):
    X, y = frauds
    det = make_detector(unlabeled="?", anomaly_labels=["fraud"]).fit(X, y)
    assert set(det.sample(100)[1]) == {"a", "b", "c"}
    with pytest.raises(ValueError, match="can't generate: it knows"):
        det.sample(1, y="fraud")


def test_one_label_for_each_row_or_one_for_all(blobs, make_detector):
    X, _, y = blobs
    det = make_detector().fit(X, y)
    assert det.sample(2, y=[0, 1])[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match="y has 3 labels for 2 rows"):
        det.sample(2, y=[0, 1, 2])
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        det.sample(0)
    with pytest.raises(ValueError, match="Z has 3 columns"):
        det.inverse_transform(np.zeros((1, 3)))


@pytest.mark.parametrize("score", ["surprise", "elbo", "log_prob"])
def test_rows_that_bernoulli_cannot_draw_are_anomalies_with_a_warning(score, make_detector):
    X = (np.random.RandomState(0).uniform(size=(100, 4)) > 0.5).astype(float)
    det = make_detector(anomaly_score=score).fit(X)
    assert det.likelihood_ == "bernoulli"
    scores = det.score_samples(X)
    assert (scores <= 0).all()
    features = det.score_features(X)
    X_new, outside = X.copy(), np.array([0, 7])
    X_new[0, 1], X_new[7, 2] = 1.02, -3
    message = r"2 of 100 rows have values outside \[0, 1\]"
    with pytest.warns(UserWarning, match=message):
        assert (det.predict(X_new)[outside] == -1).all()
    with pytest.warns(UserWarning, match=message):
        new_scores = det.score_samples(X_new)
    with pytest.warns(UserWarning, match=message):
        new_features = det.score_features(X_new)
    assert np.isneginf(new_scores[outside]).all()
    assert np.argwhere(np.isneginf(new_features)).tolist() == [[0, 1], [7, 2]]
    for new, old in ((new_scores, scores), (new_features, features)):
        assert np.array_equal(np.delete(new, outside, 0), np.delete(old, outside, 0))


def test_a_model_of_bernoulli_does_not_train_on_rows_that_it_cannot_draw(make_detector):
    X = np.tile([[0.0, 1.0], [1.0, 0.0]], (20, 1))
    det = make_detector().partial_fit(X)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        det.partial_fit(X + 0.5)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        det.fit_feedback(X, X_feedback=X[:1] + 0.5, verdicts=["false_positive"])


@pytest.mark.parametrize(
    ("X", "likelihood"),
    [
        (np.array([[0, 1.0], [1, 0]] * 10), "bernoulli"),
        (load_digits().data / 16, "bernoulli"),
        (load_digits().data, "gaussian"),
        (np.random.RandomState(0).uniform(size=(50, 3)), "gaussian"),
        (np.random.RandomState(0).normal(size=(50, 3)), "gaussian"),
    ],
)
def test_the_likelihood_is_chosen_from_the_data(X, likelihood, make_detector):
    assert make_detector(max_epochs=1).fit(X).likelihood_ == likelihood


def test_partial_fit_on_chunks_learns_the_density(line, make_detector):
    train, normal, odd = line
    det = make_detector(latent_dim=1, batch_size=32)
    for _ in range(60):
        for chunk in np.array_split(train, 4):
            det.partial_fit(chunk)
    assert _auc(det, normal, odd) > 0.9


def test_kinds_that_arrive_later_join_by_partial_fit_or_warm_start(blobs, make_detector):
    X, _, y = blobs
    det = make_detector(warm_start=True).fit(X)
    before = det.reconstruct(X)
    det.set_params(learning_rate=1e-30, max_epochs=1).fit(X, y)
    np.testing.assert_allclose(det.reconstruct(X), before)
    assert det.n_iter_ == 6
    assert np.isnan(det.history_["cross_entropy"][:5]).all()
    chunked = make_detector().partial_fit(X).partial_fit(X, np.where(y == 2, -1, y))
    assert chunked.partial_fit(X, y).classes_.tolist() == [0, 1, 2]


def test_several_factors_may_arrive_later(blobs, make_detector):
    X, y, y_partly = blobs
    factors = np.column_stack([y_partly, y % 2])
    det = make_detector().partial_fit(X).partial_fit(X, factors)
    assert [of_factor.tolist() for of_factor in det.classes_] == [[0, 1, 2], [0, 1]]
    warm = make_detector(warm_start=True).fit(X).fit(X, factors)
    assert warm.sample(2, y=[2, 1])[1].tolist() == [[2, 1]] * 2


def test_anomaly_labels_may_be_a_set(frauds, make_detector):
    X, y = frauds[:2]
    of_list, of_set = (
        make_detector(anomaly_labels=labels).fit(X, y).score_samples(X)
        for labels in (["fraud"], {"fraud"})
    )
    assert np.array_equal(of_list, of_set)


def test_a_detector_starts_from_a_classifier(blobs, make_classifier, make_detector):
    X, _, y = blobs
    noise = {"likelihood": "heteroscedastic_gaussian"}
    clf = make_classifier(prior="normal", **noise).fit(X, y)
    still = {"max_epochs": 1, "learning_rate": 1e-30, "anomaly_score": "log_prob", **noise}
    det = make_detector(**still).fit(X, y, init_model=clf)
    np.testing.assert_allclose(det.score_samples(X), clf.score_samples(X))


def test_the_classifier_has_the_same_score(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().fit(X, y)
    assert isinstance(clf, SSVAEClassifier)
    assert clf.score_samples(X).shape == (300,)
