"""Use inside scikit-learn's pipelines and searches, and on files larger than memory."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from sklearn_ssvae.model_selection import SemiSupervisedKFold


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_layer_sizes", (8,)),
        ("latent_dim", 3),
        ("likelihood", "heteroscedastic_gaussian"),
        ("alpha", 5.0),
        ("beta", 0.1),
        ("labeled_fraction", 0.6),
        ("max_epochs", 6),
        ("batch_size", 32),
        ("learning_rate", 0.01),
        ("decay_after", 3),
        ("optimizer", "rmsprop"),
        ("average", False),
        ("early_stopping", True),
        ("net_params", {"optimizer__weight_decay": 0.1}),
        ("random_state", 1),
    ],
)
def test_every_parameter_changes_the_fitted_model(name, value, blobs, make_classifier):
    X, _, y = blobs
    plain = make_classifier().fit(X, y)
    changed = make_classifier(**{name: value}).fit(X, y)
    assert not np.array_equal(plain.predict_proba(X), changed.predict_proba(X))


@pytest.mark.parametrize("params", [{"validation_fraction": 0.4}, {"n_iter_no_change": 1}])
def test_early_stopping_parameters_change_the_fitted_model(params, blobs, make_classifier):
    X, _, y = blobs
    stopped = {"early_stopping": True, "max_epochs": 60, "learning_rate": 0.02}
    plain = make_classifier(**stopped).fit(X, y)
    changed = make_classifier(**stopped, **params).fit(X, y)
    assert not np.array_equal(plain.predict_proba(X), changed.predict_proba(X))


def test_a_pipeline_classifies_embeds_and_decodes(blobs, make_classifier):
    X, y_true, y = blobs
    scaler = QuantileTransformer(n_quantiles=100, output_distribution="normal")
    pipeline = make_pipeline(scaler, make_classifier(max_epochs=60)).fit(X, y)
    assert pipeline.score(X, y_true) > 0.8
    Z = pipeline.transform(X)
    assert Z.shape == (300, 2)
    assert pipeline.inverse_transform(Z).shape == X.shape
    assert pipeline.get_feature_names_out().tolist() == [
        "ssvaeclassifier0",
        "ssvaeclassifier1",
    ]


def test_metadata_routing_passes_the_model_to_start_from(
    blobs, make_classifier, make_detector
):
    X, _, y = blobs
    det = make_detector(max_epochs=20).fit(X)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = make_classifier(learning_rate=1e-30).set_fit_request(init_model=True)
        search = GridSearchCV(clf, {"alpha": [0.5, 2.0]}, cv=SemiSupervisedKFold(2))
        search.fit(X, y, init_model=det)
    np.testing.assert_allclose(search.best_estimator_.transform(X), det.transform(X))


def test_a_search_passes_the_model_to_start_from(blobs, make_classifier, make_detector):
    X, _, y = blobs
    det = make_detector(max_epochs=20).fit(X)
    clf = make_classifier(learning_rate=1e-30)
    search = GridSearchCV(clf, {"alpha": [0.5, 2.0]}, cv=SemiSupervisedKFold(2))
    search.fit(X, y, init_model=det)
    np.testing.assert_allclose(search.best_estimator_.transform(X), det.transform(X))


def test_the_sibling_without_a_decoder_is_a_point_of_the_grid(blobs, make_classifier):
    X, _, y = blobs
    search = GridSearchCV(
        make_classifier(), {"alpha": [0.5, np.inf]}, cv=SemiSupervisedKFold(2)
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def _anonymous_bytes():
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/status")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_memory_map_is_fitted_and_scored_without_a_copy(dtype, tmp_path, make_detector):
    n_rows = 2**26 // np.dtype(dtype).itemsize // 128
    shape = (n_rows, 128)
    written = np.memmap(tmp_path / "table", dtype=dtype, mode="w+", shape=shape)
    rng = np.random.default_rng(0)
    for block in np.array_split(written, 32):
        block[:] = rng.standard_normal(block.shape, dtype=np.float32)
    written.flush()
    X = np.memmap(tmp_path / "table", dtype=dtype, mode="r", shape=shape)
    det = make_detector(max_epochs=1, batch_size=2048)
    # What a first fit and pass load for good is not the data's.
    det.fit(written[:4096].copy()).score_samples(written[:4096].copy())

    peak, done = [_anonymous_bytes()], threading.Event()

    def watch():
        while not done.wait(0.002):
            peak.append(_anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        scores = det.fit(X).score_samples(X)
    finally:
        done.set()
        watcher.join()
    assert scores.shape == (n_rows,)
    assert max(peak) - peak[0] < X.nbytes / 2
