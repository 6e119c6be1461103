"""The fitted state is arrays, opens anywhere and trains on as if unbroken."""

import copy
import json
import pickle

import joblib
import numpy as np
import pytest
import skops.io
import torch
from sklearn.base import clone


def _reload(estimator):
    return pickle.loads(pickle.dumps(estimator))


def _leaves(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


@pytest.mark.parametrize(
    "copy_of", [_reload, copy.deepcopy, lambda e: copy.deepcopy(_reload(e))]
)
def test_a_copy_gives_the_same_bits(copy_of, blobs, make_classifier, make_detector):
    X, _, y = blobs
    clf, det = make_classifier().fit(X, y), make_detector().fit(X, y)
    same_clf, same_det = copy_of(clf), copy_of(det)
    assert np.array_equal(clf.predict_proba(X), same_clf.predict_proba(X))
    assert np.array_equal(clf.transform(X), same_clf.transform(X))
    assert np.array_equal(det.decision_function(X), same_det.decision_function(X))
    assert np.array_equal(
        clf.sample(3, random_state=0)[0], same_clf.sample(3, random_state=0)[0]
    )


@pytest.mark.parametrize("copy_of", [_reload, copy.deepcopy])
def test_a_copy_leaves_torchs_generator_alone(copy_of, blobs, make_classifier):
    """Or a copy in one thread would change the first weights of a fit in another."""
    X, _, y = blobs
    clf = make_classifier(max_epochs=1).fit(X, y)
    before = torch.get_rng_state()
    copy_of(clf)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_state_holds_arrays_and_plain_values_alone(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(warm_start=True, early_stopping=True).fit(X, y)
    kinds = {type(leaf) for leaf in _leaves(clf.__getstate__())}
    assert kinds <= {np.ndarray, str, int, float, bool, type(None)}


def test_skops_has_to_trust_our_class_alone(blobs, make_classifier, make_detector):
    X, _, y = blobs
    for estimator in (make_classifier().fit(X, y), make_detector().fit(X, y)):
        data = skops.io.dumps(estimator)
        name = f"{type(estimator).__module__}.{type(estimator).__name__}"
        assert skops.io.get_untrusted_types(data=data) == [name]
        loaded = skops.io.loads(data, trusted=[name])
        assert np.array_equal(loaded.score_samples(X), estimator.score_samples(X))


@pytest.mark.parametrize(("warm_start", "copies"), [(False, 1), (True, 4)])
def test_a_pickle_is_little_more_than_the_weights_or_four_of_them(
    warm_start, copies, blobs, make_classifier, tmp_path
):
    """To train on takes two running averages of Adam and the weights of the last batch."""
    X, _, y = blobs
    clf = make_classifier(hidden_layer_sizes=(128, 128), warm_start=warm_start).fit(X, y)
    n_bytes = 4 * sum(p.numel() for p in clf.net_.module_.parameters())
    joblib.dump(clf, tmp_path / "model.joblib")
    size = (tmp_path / "model.joblib").stat().st_size
    assert copies * n_bytes < size < copies * n_bytes + 30_000


def test_training_goes_on_after_loading_as_if_unbroken(blobs, make_classifier):
    X, _, y = blobs
    unbroken = make_classifier(warm_start=True).fit(X, y)
    loaded = _reload(unbroken)
    for clf in (unbroken, loaded):
        clf.fit(X, y).partial_fit(X[:100], y[:100])
    assert np.array_equal(unbroken.predict_proba(X), loaded.predict_proba(X))
    assert np.array_equal(unbroken.history_["loss"], loaded.history_["loss"])


def test_steps_with_loading_are_one_long_training_while_the_step_size_falls(
    blobs, make_classifier
):
    X, _, y = blobs
    long = make_classifier(max_epochs=6, decay_after=3, kl_warmup=20).fit(X, y)
    steps = make_classifier(max_epochs=2, decay_after=3, kl_warmup=20, warm_start=True)
    for _ in range(3):
        steps = _reload(steps.fit(X, y))
    assert np.array_equal(steps.predict_proba(X), long.predict_proba(X))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("network", ["conv", "small_norb"])
def test_convolutions_go_on_after_loading_as_if_unbroken(optimizer, network, make_classifier):
    """Their weights have the channels last in memory, the arrays of a saved state not."""
    X = np.random.RandomState(0).uniform(size=(60, 8, 6, 2))
    y = np.arange(60) % 2
    unbroken = make_classifier(network=network, optimizer=optimizer, warm_start=True)
    loaded = _reload(unbroken.fit(X, y))
    for clf in (unbroken, loaded):
        clf.fit(X, y)
    assert np.array_equal(unbroken.predict_proba(X), loaded.predict_proba(X))


def test_chunks_go_on_after_loading_as_if_unbroken(blobs, make_detector):
    X, *_ = blobs
    unbroken, reloaded = make_detector(), make_detector()
    for chunk in np.array_split(X, 5):
        unbroken.partial_fit(chunk)
        reloaded = _reload(reloaded.partial_fit(chunk))
    assert np.array_equal(unbroken.score_samples(X), reloaded.score_samples(X))


def test_a_model_opens_as_it_was_with_averaging_turned_off_in_between(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(warm_start=True).fit(X, y).set_params(average=False)
    assert np.array_equal(_reload(clf).predict_proba(X), clf.predict_proba(X))
    before = _reload(clf)
    assert np.array_equal(before.fit(X, y).predict_proba(X), clf.fit(X, y).predict_proba(X))


def test_a_plain_fit_goes_on_after_loading_as_if_unbroken(blobs, make_classifier):
    """Without warm_start the optimizer's averages are dropped, in memory as on disk."""
    X, _, y = blobs
    unbroken = make_classifier().fit(X, y)
    loaded = _reload(unbroken)
    for clf in (unbroken, loaded):
        clf.partial_fit(X, y)
    assert np.array_equal(unbroken.predict_proba(X), loaded.predict_proba(X))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_model_of_a_missing_device_opens_and_trains_on(device, blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(warm_start=True).fit(X, y)
    elsewhere = _reload(clf.set_params(device=device))
    assert elsewhere.device == device
    assert np.array_equal(elsewhere.predict_proba(X), clf.predict_proba(X))
    assert elsewhere.fit(X, y).n_iter_ == 10
    assert elsewhere.partial_fit(X, y).n_iter_ == 11


def test_parameters_set_after_fit_do_not_reach_a_saved_model(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(warm_start=True).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(hidden_layer_sizes=(3,), latent_dim=7, optimizer="rmsprop", alpha=5)
    assert np.array_equal(clf.predict_proba(X), before)
    assert np.array_equal(_reload(clf).predict_proba(X), before)


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": "Adam"},
        {"net_params": {"no_such": 1}},
        {"callbacks": [3]},
        {"learning_rate": "fast"},
    ],
)
def test_parameters_that_fit_refuses_do_not_break_a_saved_model(
    params, blobs, make_classifier
):
    X, _, y = blobs
    clf = make_classifier().fit(X, y).set_params(**params)
    loaded = _reload(clf)
    assert np.array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    with pytest.raises((AttributeError, TypeError, ValueError)):
        loaded.fit(X, y)


def test_another_optimizer_starts_with_fresh_averages(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(warm_start=True).fit(X, y).set_params(optimizer="rmsprop")
    loaded = _reload(clf)
    for model in (clf, loaded):
        model.fit(X, y)
    assert np.array_equal(clf.predict_proba(X), loaded.predict_proba(X))


def test_an_unfitted_estimator_pickles(make_classifier):
    assert _reload(make_classifier()).get_params() == make_classifier().get_params()


def test_a_clone_is_unfitted(blobs, make_classifier):
    X, _, y = blobs
    assert not hasattr(clone(make_classifier().fit(X, y)), "net_")


def test_history_turns_into_json(blobs, make_classifier):
    X, _, y = blobs
    history = make_classifier().fit(X, y).history_
    assert json.dumps({name: values.tolist() for name, values in history.items()})
