"""Verdicts of people on what the detector found."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sklearn_ssvae._scores import adjust, log_feedback_factor


@pytest.fixture
def found(make_detector):
    """Fit rows near a line, with a free fourth column, and make two kinds of findings.

    Returns the detector, its training rows, a normal kind that it flags because the
    training rows hold few of it, and an anomalous kind that it takes for normal.
    """
    rng = np.random.RandomState(0)

    def near(center, n, spread=0.15):
        return np.asarray(center) + spread * rng.normal(size=(n, 4))

    t = rng.normal(size=(600, 1))
    line = t * [1.0, 1.0, -1.0, 0.0] + [0.15, 0.15, 0.15, 1.0] * rng.normal(size=(600, 4))
    rare = near([3.0, -3.0, 3.0, 0.0], 40)
    hidden = near([0.0, 0.0, 0.0, 1.6], 40, 0.03)
    train = np.vstack([line, rare[:4]])
    det = make_detector(
        latent_dim=1,
        hidden_layer_sizes=(64,),
        max_epochs=60,
        learning_rate=0.005,
        contamination=0.05,
        alpha=1.0,
    )
    return det.fit(train), train, rare, hidden


def test_a_false_positives_own_kind_stops_being_flagged(found):
    det, train, rare, _ = found
    judged, unseen = rare[4:14], rare[14:]
    assert (det.predict(unseen) == -1).mean() > 0.9
    verdicts = ["false_positive"] * len(judged)
    det.fit_feedback(train, X_feedback=judged, verdicts=verdicts)
    assert (det.predict(unseen) == -1).mean() < 0.1
    assert (det.predict(train) == -1).mean() == pytest.approx(0.05, abs=0.01)


def test_a_false_negatives_own_kind_gets_flagged(found):
    det, train, _, hidden = found
    assert (det.predict(hidden) == -1).mean() < 0.1
    det.fit_feedback(train, X_feedback=hidden[:15], verdicts=["false_negative"] * 15)
    raw = det.score_samples(hidden[15:], feedback=False)
    assert (det.score_samples(hidden[15:]) < raw).all()
    assert (det.predict(hidden[15:]) == -1).mean() > 0.9


def test_the_adjusted_score_is_the_formula_of_the_paper(found):
    det, train, rare, hidden = found
    det.fit_feedback(
        train,
        X_feedback=np.vstack([rare[:5], hidden[:5]]),
        verdicts=["false_positive"] * 5 + ["false_negative"] * 5,
    )
    rows = np.vstack([train[:20], rare, hidden])
    module = copy.deepcopy(det.net_.inference_module).cpu()
    with torch.no_grad():
        x = module.standardize(torch.from_numpy(rows))
        p = torch.softmax(module.encode(x)[0]["feedback"], dim=1).numpy()
    raw = det.score_samples(rows, feedback=False)
    expected = [
        ref - (1 - fp) / (1 - fn) * (ref - score) if score < ref else score
        for ref, score, (_, fp, fn) in zip([det.reference_score_] * len(rows), raw, p)
    ]
    np.testing.assert_allclose(det.score_samples(rows), expected)
    plain = det.score_samples(train, feedback=False)
    threshold = np.percentile(plain, 5)
    assert det.reference_score_ == pytest.approx(2 * plain.max() - threshold)


def test_the_factor_acts_on_an_abnormality_that_is_not_negative():
    scores = np.array([-5.0, 1.0, 3.0, 4.0])
    unchanged = adjust(scores, np.zeros(4), reference=3.0)
    assert unchanged.tolist() == scores.tolist()
    halved = adjust(scores, np.log(np.full(4, 0.5)), reference=3.0)
    assert halved.tolist() == [-1.0, 2.0, 3.0, 4.0]
    doubled = adjust(scores, np.log(np.full(4, 2.0)), reference=3.0)
    assert doubled.tolist() == [-13.0, -1.0, 3.0, 4.0]


def test_the_factor_is_finite_for_probabilities_of_one():
    class Sure:
        def standardize(self, x):
            return x

        def encode(self, x):
            return {"feedback": x}, None, None

    logits = torch.tensor([[0.0, 200.0, 0.0], [0.0, 0.0, 200.0], [3.0, 0.0, 0.0]]).double()
    log_factor = log_feedback_factor(Sure(), logits)[:, 0]
    p = torch.softmax(logits[2], 0)
    assert log_factor[:2].tolist() == [-20.0, 20.0]
    assert log_factor[2].item() == pytest.approx(torch.log((1 - p[1]) / (1 - p[2])).item())


def test_verdicts_gather_and_survive_saving(found):
    det, train, rare, hidden = found
    det.fit_feedback(train, X_feedback=rare[:3], verdicts=["false_positive"] * 3)
    again = pickle.loads(pickle.dumps(det))
    assert np.array_equal(again.score_samples(rare), det.score_samples(rare))
    again.fit_feedback(train, X_feedback=hidden[:1], verdicts="false_negative")
    assert np.array_equal(again.feedback_X_, np.vstack([rare[:3], hidden[:1]]))
    assert again.feedback_verdicts_.tolist() == ["false_positive"] * 3 + ["false_negative"]


def test_rows_far_out_keep_finite_scores_that_tell_them_apart(found):
    det, train, _, hidden = found
    det.fit_feedback(train, X_feedback=hidden[:5], verdicts=["false_negative"] * 5)
    far = 1e4 * np.random.RandomState(0).normal(size=(200, 4))
    scores = det.score_samples(far)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 200


def test_false_negatives_stay_out_of_the_density_wherever_they_are(found):
    """Those that are among the training rows count as those that are not."""
    det, train, _, hidden = found
    missed = hidden[:15]
    verdicts = {"X_feedback": missed, "verdicts": ["false_negative"] * 15}
    apart, among = (copy.deepcopy(det).set_params(max_epochs=60) for _ in range(2))
    apart.fit_feedback(train, **verdicts)
    among.fit_feedback(np.vstack([train, missed]), **verdicts)
    assert len(among.net_.history[-1]["batches"]) == len(apart.net_.history[-1]["batches"])
    assert not (among.reference_X_[:, None] == missed).all(axis=2).any()
    plain = [d.score_samples(hidden[15:], feedback=False).mean() for d in (apart, among)]
    assert plain[1] == pytest.approx(plain[0], abs=0.3 * abs(plain[0]))
    assert (among.predict(hidden[15:]) == -1).mean() > 0.9


def test_the_last_verdict_on_a_row_counts(found):
    det, train, rare, _ = found
    rows = np.vstack([rare[4:14], rare[4:14]])
    verdicts = ["false_negative"] * 10 + ["false_positive"] * 10
    det.fit_feedback(train, X_feedback=rows, verdicts=verdicts)
    assert (det.predict(rare[14:]) == -1).mean() < 0.1


def test_a_false_positive_that_was_revoked_is_no_neighbor_of_normal_rows(found):
    det, train, rare, _ = found
    judged = rare[4:14]
    counts = []
    for verdict in ("false_positive", "false_negative"):
        det.fit_feedback(train, X_feedback=judged, verdicts=[verdict] * 10)
        same = (det.reference_X_[:, None] == judged).all(axis=2)
        counts.append(same.any(axis=0).sum())
    assert counts == [10, 0]


def test_judged_rows_are_found_among_the_training_rows_but_for_rounding(found):
    det, train, *_ = found
    train = train.round(1)
    det.set_params(max_epochs=1).fit(train)
    judged = np.unique(train, axis=0)[:20]
    same = (train[:, None] == judged).all(axis=2).any(axis=1)
    for stored in (judged, judged.astype(np.float32), -(-judged + 0.0), judged * (1 + 1e-14)):
        again = copy.deepcopy(det)
        again.fit_feedback(train, X_feedback=stored, verdicts=["false_negative"] * 20)
        assert np.array_equal(again._verdicts_of(train) == 2, same)
    near = judged + 0.01
    det.fit_feedback(train, X_feedback=near, verdicts=["false_negative"] * 20)
    assert not (det._verdicts_of(train) == 2).any()


def test_a_further_fit_without_a_pi_head_drops_that_of_the_verdicts(found):
    det, train, rare, _ = found
    det.fit_feedback(train, X_feedback=rare[:3], verdicts=["false_positive"] * 3)
    det.set_params(alpha=0, warm_start=True, max_epochs=1).fit(train)
    assert np.array_equal(det.score_samples(rare), det.score_samples(rare, feedback=False))


def test_feedback_without_the_known_labels_warns(blobs, make_detector):
    X, _, y = blobs
    det = make_detector(max_epochs=1).fit(X, y)
    with pytest.warns(UserWarning, match=r"learned the labels array\(\[0, 1, 2\]\)"):
        det.fit_feedback(X, X_feedback=X[:1], verdicts="false_positive")


def test_feedback_goes_on_from_the_present_weights(found):
    det, train, rare, _ = found
    before = det.reconstruct(train)
    det.set_params(learning_rate=1e-30, max_epochs=1)
    det.fit_feedback(train, X_feedback=rare[:3], verdicts=["false_positive"] * 3)
    np.testing.assert_allclose(det.reconstruct(train), before)
    assert det.n_iter_ == 61


def test_feedback_works_beside_labels_of_kinds(blobs, make_detector):
    X, _, y = blobs
    det = make_detector(max_epochs=20).fit(X, y)
    det.fit_feedback(X, y, X_feedback=X[:4], verdicts=["false_positive"] * 4)
    assert det.classes_.tolist() == [0, 1, 2]
    assert det.sample(3, y=2)[1].tolist() == [2] * 3
    det.partial_fit(X, y)
    assert len(det.feedback_X_) == 4


def test_feedback_is_learned_where_the_only_label_means_anomaly(found):
    det, train, rare, _ = found
    y = np.where(np.arange(len(train)) < 5, 7, -1)
    det.set_params(anomaly_labels=[7], max_epochs=30).fit(train, y)
    det.fit_feedback(train, y, X_feedback=rare[4:14], verdicts=["false_positive"] * 10)
    raw = det.score_samples(rare[14:], feedback=False)
    assert (det.score_samples(rare[14:]) > raw + 1).all()


def test_a_new_fit_forgets_the_feedback(found):
    det, train, rare, _ = found
    det.fit_feedback(train, X_feedback=rare[:3], verdicts=["false_positive"] * 3)
    det.set_params(max_epochs=1).fit(train)
    assert not hasattr(det, "feedback_X_")
    assert np.array_equal(det.score_samples(rare), det.score_samples(rare, feedback=False))


@pytest.mark.parametrize(
    ("rows", "verdicts", "message"),
    [
        (2, ["false_positive", "wrong"], 'must be "false_positive" or'),
        (2, ["false_positive"], "inconsistent numbers"),
    ],
)
def test_verdicts_that_make_no_sense_are_refused(found, rows, verdicts, message):
    det, train, rare, _ = found
    before = det.score_samples(rare)
    with pytest.raises(ValueError, match=message):
        det.fit_feedback(train, X_feedback=rare[:rows], verdicts=verdicts)
    assert np.array_equal(det.score_samples(rare), before)


def test_a_failing_feedback_leaves_the_earlier_one(found):
    det, train, rare, _ = found
    with pytest.raises(ValueError, match="NaN"):
        det.fit_feedback(
            np.full_like(train, np.nan), X_feedback=rare[:1], verdicts=["false_positive"]
        )
    assert not hasattr(det, "feedback_X_")


def test_without_a_pi_head_there_is_nothing_to_learn_verdicts(found):
    det, train, rare, _ = found
    det.set_params(alpha=0)
    with pytest.raises(ValueError, match="alpha=0"):
        det.fit_feedback(train, X_feedback=rare[:1], verdicts=["false_positive"])
