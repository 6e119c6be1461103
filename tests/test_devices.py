"""A model is the same on a GPU and on the CPU; these tests need a GPU."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

NETWORKS = {
    "dense": (12,),
    "conv": (6, 7),
    "recurrent": (8, 3),
    "small_norb": (16, 16, 2),
}


@pytest.fixture(params=NETWORKS)
def trained(request, make_classifier):
    """Train a classifier on the GPU; return it with its rows and their labels."""
    shape = NETWORKS[request.param]
    rng = np.random.RandomState(0)
    X = rng.uniform(size=(120, *shape)).astype(np.float32)
    y = rng.randint(2, size=120)
    X[y == 1, ..., :2] *= 0.2
    y[40:] = -1
    sizes = (16, 16, 16) if request.param == "recurrent" else (16,)
    clf = make_classifier(
        network=request.param, hidden_layer_sizes=sizes, device="cuda", warm_start=True
    )
    return clf.fit(X, y), X, y


def _moved(estimator, device):
    """Load the saved estimator on another device; the one given stays where it is."""
    before = estimator.device
    state = pickle.dumps(estimator.set_params(device=device))
    estimator.set_params(device=before)
    return pickle.loads(state)


def _place(estimator):
    return next(estimator.net_.module_.parameters()).device.type


def test_a_model_of_a_gpu_gives_the_same_on_the_cpu(trained):
    clf, X, _ = trained
    on_cpu = _moved(clf, "cpu")
    assert (_place(clf), _place(on_cpu)) == ("cuda", "cpu")
    # Stacks of convolutions compute in float32, or what a GPU takes for it.
    tolerance = 1e-4 if clf.network in ("conv", "small_norb") else 1e-9
    for method in ("predict_proba", "transform", "reconstruct", "score_samples"):
        ours, theirs = getattr(clf, method)(X), getattr(on_cpu, method)(X)
        assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=method)
    drawn, theirs = (model.sample(5, random_state=0)[0] for model in (clf, on_cpu))
    assert_allclose(drawn, theirs, rtol=tolerance, atol=tolerance)


def test_training_goes_on_on_the_other_device(trained):
    clf, X, y = trained
    on_cpu = _moved(clf, "cpu").fit(X, y)
    back = _moved(on_cpu, "cuda").partial_fit(X, y)
    assert (_place(on_cpu), _place(back)) == ("cpu", "cuda")
    assert on_cpu.n_iter_ == 10
    assert back.n_iter_ == 11
    assert np.isfinite(back.score_samples(X)).all()


def test_a_row_alone_has_the_result_of_the_row_among_others(trained):
    clf, X, _ = trained
    together = clf.predict_proba(X)
    alone = np.vstack([clf.predict_proba(row[None]) for row in X[:20]])
    assert_allclose(alone, together[:20], rtol=1e-9)


def test_one_seed_gives_one_model(trained):
    clf, X, y = trained
    again = pickle.loads(pickle.dumps(clf)).set_params(warm_start=False).fit(X, y)
    assert np.array_equal(again.history_["loss"], clf.history_["loss"])
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_dense_network_learns_the_same_on_both(precision, blobs, make_classifier):
    """Without dropout all draws are those of the CPU."""
    X, _, y = blobs
    losses = [
        make_classifier(device=device, precision=precision).fit(X, y).history_["loss"]
        for device in ("cpu", "cuda")
    ]
    assert_allclose(*losses, rtol=1e-4 if precision == "float32" else 0.05)


def test_auto_takes_the_gpu(blobs, make_detector):
    X, *_ = blobs
    assert _place(make_detector().fit(X)) == "cuda"
