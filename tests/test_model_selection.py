import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score, get_scorer
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_ssvae.model_selection import (
    SemiSupervisedKFold,
    SemiSupervisedShuffleSplit,
    make_semi_supervised_scorer,
)

SPLITTERS = [
    SemiSupervisedKFold(5),
    SemiSupervisedKFold(3, shuffle=True, random_state=0),
    SemiSupervisedShuffleSplit(4, test_size=0.3, random_state=0),
]


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_unlabeled_rows_always_train_and_never_test(splitter, blobs):
    X, _, y = blobs
    unlabeled = np.flatnonzero(y == -1)
    splits = list(splitter.split(X, y))
    assert len(splits) == splitter.get_n_splits()
    for train, test in splits:
        assert np.isin(unlabeled, train).all()
        assert (y[test] >= 0).all()
        assert not np.intersect1d(train, test).size


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_labeled_rows_are_stratified(splitter, blobs):
    X, _, y = blobs
    for _, test in splitter.split(X, y):
        counts = np.bincount(y[test])
        assert np.ptp(counts) <= 1


def test_a_seed_without_a_shuffle_is_refused_as_by_scikit_learn_unless_set_later(blobs):
    X, _, y = blobs
    with pytest.raises(ValueError, match="random_state has no effect since shuffle is False"):
        SemiSupervisedKFold(5, random_state=0)
    splitter = SemiSupervisedKFold(5)
    splitter.random_state = np.random.RandomState(0)  # as StackingClassifier does
    for (_, test), (_, expected) in zip(
        splitter.split(X, y), SemiSupervisedKFold(5).split(X, y)
    ):
        assert np.array_equal(test, expected)


def test_folds_test_every_labeled_row_once(blobs):
    X, _, y = blobs
    tested = np.concatenate([test for _, test in SemiSupervisedKFold(5).split(X, y)])
    assert sorted(tested) == np.flatnonzero(y >= 0).tolist()


def test_string_labels_and_another_marker(blobs):
    X, _, y = blobs
    named = np.array(["a", "b", "c", None], dtype=object)[y]
    ours = SemiSupervisedKFold(5, unlabeled=None).split(X, named)
    for (train, test), (train_codes, test_codes) in zip(
        ours, SemiSupervisedKFold(5).split(X, y)
    ):
        assert np.array_equal(train, train_codes)
        assert np.array_equal(test, test_codes)


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_no_labels_at_all_is_an_error(splitter):
    with pytest.raises(ValueError, match="no labeled row to split"):
        next(splitter.split(np.zeros((9, 2)), np.full(9, -1)))


def test_fewer_labels_than_folds_is_an_error():
    y = np.array([0, 0, 1, 1] + [-1] * 6)
    with pytest.raises(ValueError, match="n_splits=5"):
        next(SemiSupervisedKFold(5).split(y, y))


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame, pl.DataFrame])
def test_the_scorer_leaves_unlabeled_rows_out(container, blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().fit(container(X), y)
    labeled = y >= 0
    expected = f1_score(y[labeled], clf.predict(container(X))[labeled], average="macro")
    scorer = make_semi_supervised_scorer("f1_macro")
    assert scorer(clf, container(X), y) == expected


def test_weights_are_routed_to_the_labeled_rows(blobs, make_classifier):
    X, _, y = blobs
    weights = np.random.RandomState(0).uniform(size=len(X))
    folds = KFold(2, shuffle=True, random_state=0)
    with config_context(enable_metadata_routing=True):
        weighted = get_scorer("accuracy").set_score_request(sample_weight=True)
        scores = cross_val_score(
            make_classifier(),
            X,
            y,
            cv=folds,
            scoring=make_semi_supervised_scorer(weighted),
            params={"sample_weight": weights},
        )
    for score, (train, test) in zip(scores, folds.split(X)):
        clf = make_classifier().fit(X[train], y[train])
        rows = test[y[test] >= 0]
        expected = accuracy_score(y[rows], clf.predict(X[rows]), sample_weight=weights[rows])
        assert score == expected


def test_the_scorer_needs_a_metric():
    with pytest.raises(ValueError, match="scoring must be a scorer or the name of one"):
        make_semi_supervised_scorer(None)


def test_the_scorer_refuses_a_test_set_without_labels(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().fit(X, y)
    with pytest.raises(ValueError, match="no labeled row to score on"):
        make_semi_supervised_scorer("accuracy")(clf, X, np.full(len(X), -1))


@pytest.mark.parametrize(
    ("cv", "scoring"),
    [
        (None, None),
        (SemiSupervisedKFold(3), "accuracy"),
        (SemiSupervisedKFold(3), "neg_log_loss"),
        (
            KFold(3, shuffle=True, random_state=0),
            make_semi_supervised_scorer("accuracy"),
        ),
    ],
)
def test_a_search_reports_the_score_of_labeled_rows(cv, scoring, blobs, make_classifier):
    """The unlabeled rows, 90 in 100, would pull an accuracy below 0.11."""
    X, y_true, y = blobs
    search = GridSearchCV(
        make_classifier(max_epochs=40, consistency=0),
        {"alpha": [0.5, 2.0]},
        cv=cv,
        scoring=scoring,
        error_score="raise",
    ).fit(X, y)
    if scoring == "neg_log_loss":
        assert search.best_score_ > -0.5
    else:
        truth = accuracy_score(y_true, search.predict(X))
        assert search.best_score_ == pytest.approx(truth, abs=0.15)


def test_cross_val_score_over_a_pipeline_with_string_labels(make_classifier):
    X, y = load_digits(n_class=3, return_X_y=True)
    named = np.array(["zero", "one", "two"], dtype=object)[y]
    named[30:] = -1
    pipeline = make_pipeline(MinMaxScaler(), make_classifier(max_epochs=20))
    scores = cross_val_score(pipeline, X, named, cv=SemiSupervisedKFold(3))
    assert scores.mean() > 0.8


@pytest.mark.parametrize("n_jobs_backend", [(1, "loky"), (2, "loky"), (2, "threading")])
def test_a_search_gives_the_same_bits_on_every_backend(n_jobs_backend, blobs, make_classifier):
    from joblib import parallel_config

    X, _, y = blobs
    n_jobs, backend = n_jobs_backend
    search = GridSearchCV(
        make_classifier(),
        {"alpha": [0.5, 2.0], "beta": [0.5, 1.0]},
        scoring=["accuracy", "neg_log_loss"],
        refit=False,
        cv=SemiSupervisedKFold(2),
    )

    def scores():
        search.fit(X, y)
        return [
            search.cv_results_[f"split{split}_test_{name}"]
            for split in range(2)
            for name in ("accuracy", "neg_log_loss")
        ]

    alone = scores()
    with parallel_config(backend=backend, n_jobs=n_jobs):
        together = scores()
    assert np.array_equal(alone, together)
