"""Labels of several factors, one column of y each."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from sklearn_ssvae import SSVAEClassifier
from sklearn_ssvae.model_selection import SemiSupervisedKFold, make_semi_supervised_scorer


@pytest.fixture
def factors():
    """Four clusters told apart by two factors; a third of the labels of each is known."""
    rng = np.random.RandomState(0)
    y = np.column_stack([rng.randint(2, size=300), rng.randint(3, size=300)])
    X = np.column_stack([3.0 * y, rng.normal(size=(300, 2))])
    X[:, :2] += 0.3 * rng.normal(size=(300, 2))
    hidden = rng.uniform(size=y.shape) < 2 / 3
    return X, y, np.where(hidden, -1, y)


@pytest.fixture
def fitted(factors, make_classifier):
    X, _, y_partly = factors
    return make_classifier(prior="normal", max_epochs=60, alpha=1.0, learning_rate=0.01).fit(
        X, y_partly
    )


def test_every_factor_has_classes_probabilities_and_predictions(factors, fitted):
    X, y, _ = factors
    assert [classes.tolist() for classes in fitted.classes_] == [[0, 1], [0, 1, 2]]
    proba = fitted.predict_proba(X)
    assert [p.shape for p in proba] == [(300, 2), (300, 3)]
    for p in proba:
        np.testing.assert_allclose(p.sum(axis=1), 1)
    for p, log_p in zip(proba, fitted.predict_log_proba(X)):
        np.testing.assert_allclose(np.log(p), log_p)
    predicted = fitted.predict(X)
    assert predicted.shape == y.shape
    for column, p in enumerate(proba):
        assert np.array_equal(predicted[:, column], fitted.classes_[column][p.argmax(1)])
        assert (predicted[:, column] == y[:, column]).mean() > 0.95


def test_the_score_asks_for_all_labels_of_a_row_and_skips_the_unknown(factors, fitted):
    X, y, y_partly = factors
    right = fitted.predict(X) == y
    assert fitted.score(X, y) == right.all(axis=1).mean()
    known = y_partly >= 0
    rows = known.any(axis=1)
    expected = (right | ~known)[rows].all(axis=1).mean()
    assert fitted.score(X, y_partly) == expected


def test_generation_asks_for_a_class_of_each_factor(factors, fitted):
    X_new, y_new = fitted.sample(5, y=[1, 2], observation_noise=False)
    assert y_new.tolist() == [[1, 2]] * 5
    np.testing.assert_allclose(X_new[:, :2].mean(axis=0), [3, 6], atol=1.5)
    several = fitted.sample(3, y=[[0, 0], [1, 0], [1, 2]], random_state=0)
    assert several[1].tolist() == [[0, 0], [1, 0], [1, 2]]
    drawn = fitted.sample(400, random_state=0)[1]
    shares = np.bincount(drawn[:, 1]) / 400
    np.testing.assert_allclose(shares, fitted.class_prior_[1], atol=0.08)


def test_generation_gives_the_classes_of_each_factor_under_their_own_prior(
    factors, make_classifier
):
    """Means of the factors add up: half way to each would be none of them."""
    X, _, y_partly = factors
    clf = make_classifier(
        alpha=1.0,
        max_epochs=60,
        latent_dim=32,
        hidden_layer_sizes=(64,),
        batch_size=32,
        learning_rate=0.01,
    ).fit(X, y_partly)
    assert clf.prior_ == "class_conditional"
    for pair in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]:
        X_new, _ = clf.sample(200, y=pair, random_state=0)
        assert (np.round(X_new[:, :2] / 3).clip(0, 2) == pair).all(axis=1).mean() > 0.8


def test_decoding_without_a_class_is_the_mean_over_all_combinations(factors, fitted):
    Z = fitted.transform(factors[0][:4])
    expected = sum(
        fitted.class_prior_[0][i]
        * fitted.class_prior_[1][j]
        * fitted.inverse_transform(Z, y=[fitted.classes_[0][i], fitted.classes_[1][j]])
        for i in range(2)
        for j in range(3)
    )
    np.testing.assert_allclose(fitted.inverse_transform(Z), expected)


def test_factors_may_be_of_different_kinds(factors, make_classifier):
    X, y, _ = factors
    frame = pd.DataFrame({"side": np.array(["left", "right"])[y[:, 0]], "level": y[:, 1]})
    frame.loc[::3, "side"] = None
    frame["level"] = frame["level"].where(np.arange(300) % 2 == 0)
    clf = make_classifier(unlabeled=None).fit(X, frame)
    assert clf.classes_[0].tolist() == ["left", "right"]
    assert clf.classes_[1].tolist() == [0, 1, 2]
    assert clf.class_count_[1].sum() == 150
    predicted = clf.predict(X)
    assert set(predicted[:, 0]) <= {"left", "right"}
    assert set(predicted[:, 1]) <= {0, 1, 2}
    assert clf.score(X, predicted) == 1
    y_new = clf.sample(2, y=["left", 1])[1]
    assert y_new.tolist() == [["left", 1]] * 2
    clf.set_params(prior="normal").fit(X, frame)
    assert clf.inverse_transform(clf.transform(X[:2]), y=y_new).shape == (2, 4)


def test_chunks_need_the_classes_of_each_factor(factors, make_classifier):
    X, y, y_partly = factors
    clf = make_classifier()
    for _ in range(2):
        for rows in np.array_split(np.arange(300), 3):
            clf.partial_fit(X[rows], y_partly[rows], classes=[[0, 1], [0, 1, 2]])
    assert [count.sum() for count in clf.class_count_] == (2 * (y_partly >= 0).sum(0)).tolist()
    with pytest.raises(ValueError, match="not the same as on last call"):
        clf.partial_fit(X, y_partly, classes=[[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="y has 3 columns"):
        clf.partial_fit(X, np.column_stack([y, y[:, 0]]))


def test_a_factor_without_labels_is_named_by_its_column(factors, make_classifier):
    X, y, _ = factors
    y = y.copy()
    y[:, 1] = -1
    with pytest.raises(ValueError, match="no labeled row in column 1"):
        make_classifier().fit(X, y)
    y[:, 1] = 2
    with pytest.raises(ValueError, match="only one class in column 1, \\[2\\]"):
        make_classifier().fit(X, y)


def test_early_stopping_holds_out_labels_of_several_factors(factors, make_classifier):
    X, _, y_partly = factors
    clf = make_classifier(early_stopping=True, max_epochs=3).fit(X, y_partly)
    assert np.isfinite(clf.history_["valid_cross_entropy"]).all()


def test_factors_out_of_the_decoder_leave_generation_without_classes(factors, make_classifier):
    X, y, _ = factors
    clf = make_classifier(prior="normal", decoder_label=None).fit(X, y)
    X_new, y_new = clf.sample(3, random_state=0)
    assert y_new is None
    assert X_new.shape == (3, 4)
    with pytest.raises(ValueError, match="reads classes"):
        clf.sample(3, y=[0, 0])
    assert clf.inverse_transform(clf.transform(X)).shape == X.shape


def test_the_detector_takes_several_kinds_as_well(factors, make_detector):
    X, y, y_partly = factors
    det = make_detector().fit(X, y_partly)
    assert [classes.tolist() for classes in det.classes_] == [[0, 1], [0, 1, 2]]
    assert det.sample(2, y=[1, 1])[1].tolist() == [[1, 1]] * 2
    odd = make_detector(anomaly_labels=[2]).fit(X, np.column_stack([y[:, 0] + 10, y[:, 1]]))
    assert odd.class_prior_[1].shape == (2,)
    assert odd.sample(1, y=[10, 1])[1].tolist() == [[10, 1]]


def test_one_column_alone_is_the_single_factor(factors, make_classifier):
    X, _, y_partly = factors
    plain = make_classifier().fit(X, y_partly[:, 0])
    with pytest.warns(UserWarning, match="column-vector"):
        column = make_classifier().fit(X, y_partly[:, :1])
    assert np.array_equal(plain.predict_proba(X), column.predict_proba(X))


def test_folds_hold_rows_with_a_label_of_any_factor(factors, make_classifier):
    X, _, y_partly = factors
    labeled = (y_partly >= 0).any(axis=1)
    tested = []
    for train, test in SemiSupervisedKFold(3).split(X, y_partly):
        assert labeled[test].all()
        assert len(train) + len(test) == len(X)
        tested.extend(test)
    assert sorted(tested) == np.flatnonzero(labeled).tolist()
    search = GridSearchCV(
        make_classifier(max_epochs=2), {"alpha": [0.3, 1.0]}, cv=SemiSupervisedKFold(2)
    ).fit(X, y_partly)
    assert 0 <= search.best_score_ <= 1
    scorer = make_semi_supervised_scorer("accuracy")
    with pytest.raises(ValueError, match="one factor"):
        scorer(search, X, y_partly)


def test_several_factors_survive_saving(factors, fitted):
    import pickle

    X = factors[0]
    again = pickle.loads(pickle.dumps(fitted))
    assert isinstance(again, SSVAEClassifier)
    assert np.array_equal(again.predict(X), fitted.predict(X))
