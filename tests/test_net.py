import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler

from sklearn_ssvae import SSVAEClassifier
from sklearn_ssvae._batching import Rows
from sklearn_ssvae._net import CLEAR_EVERY, VANISHED, one_thread, repeatable


class _Recorder(Callback):
    """Notes the hooks that skorch calls."""

    def on_train_begin(self, net, **kwargs):
        self.calls_ = ["train"]

    def on_epoch_begin(self, net, **kwargs):
        self.calls_.append("epoch")

    def on_batch_end(self, net, **kwargs):
        self.calls_.append("batch")


class _PressCtrlC:
    """Not a callback: stands for the keyboard."""

    def press(self):
        raise KeyboardInterrupt


class _InterruptAtEpoch(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            _PressCtrlC().press()


class _StopAtEpoch(Callback):
    """Ends the training in skorch's way."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


class _Poison(Callback):
    """Makes a weight infinite after a number of batches."""

    def __init__(self, epoch, batch):
        self.epoch = epoch
        self.batch = batch

    def on_batch_end(self, net, training, **kwargs):
        at = (len(net.history), len(net.history[-1]["batches"]))
        if training and at == (self.epoch, self.batch):
            with torch.no_grad():
                net.module_.pi["0"].bias[0] = torch.inf


def test_callbacks_see_every_epoch_and_batch(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(max_epochs=3, batch_size=60, callbacks=[_Recorder()])
    clf.fit(X, y)
    calls = dict(clf.net_.callbacks_)["_Recorder"].calls_
    # 270 unlabeled rows, 54 of them a batch.
    assert calls == ["train"] + 3 * (["epoch"] + 5 * ["batch"])


def test_the_users_callbacks_stay_as_they_were(blobs, make_classifier):
    X, _, y = blobs
    recorder = _Recorder()
    callbacks = [recorder, ("clip", GradientNormClipping(1.0))]
    make_classifier(callbacks=callbacks).fit(X, y)
    assert vars(recorder) == {}
    assert callbacks[0] is recorder
    assert len(callbacks) == 2


def test_a_learning_rate_schedule_changes_the_training(blobs, make_classifier):
    X, _, y = blobs
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.1)
    plain = make_classifier().fit(X, y)
    scheduled = make_classifier(callbacks=[schedule]).fit(X, y)
    assert scheduled.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-8, rel=1)
    assert not np.array_equal(plain.predict_proba(X), scheduled.predict_proba(X))


class _StepSizes(Callback):
    """Notes the step size of each batch."""

    def on_train_begin(self, net, **kwargs):
        self.sizes_ = []

    def on_batch_end(self, net, training, **kwargs):
        if training:
            self.sizes_.append(net.optimizer_.param_groups[0]["lr"])

    @classmethod
    def of(cls, clf):
        return dict(clf.net_.callbacks_)[cls.__name__].sizes_


def test_the_step_size_falls_with_the_batches_once_they_are_enough(blobs, make_classifier):
    X, _, y = blobs
    params = {"batch_size": 60, "learning_rate": 0.01, "callbacks": [_StepSizes()]}
    clf = make_classifier(max_epochs=2, decay_after=4, warm_start=True, **params).fit(X, y)
    wanted = [0.01 * min(1, 4 / n) ** 1.5 for n in range(1, 16)]
    assert _StepSizes.of(clf) == pytest.approx(wanted[:10])
    clf.set_params(max_epochs=1).fit(X, y)
    assert _StepSizes.of(clf) == pytest.approx(wanted[10:])
    clf.set_params(decay_after=None).fit(X, y)
    assert _StepSizes.of(clf) == 5 * [0.01]


@pytest.mark.parametrize(
    ("params", "n_epochs"),
    [
        ({"batch_size": 64}, 13),
        ({"batch_size": 64, "hidden_layer_sizes": (16, 128)}, 52),
        ({"batch_size": 64, "hidden_layer_sizes": 1024}, 13),
        ({"batch_size": 5}, 3),
        ({"batch_size": 1, "labeled_fraction": 0.5}, 2),
        ({"batch_size": 96, "network": "recurrent"}, 63),
        ({"batch_size": 700, "network": "recurrent"}, 300),
        ({"alpha": np.inf}, None),
        ({"callbacks": [LRScheduler("StepLR", step_size=1)]}, None),
        ({"decay_after": None}, None),
    ],
)
def test_the_step_size_falls_by_default_after_1000_batches_within_bounds(
    params, n_epochs, make_classifier
):
    X = np.random.RandomState(0).normal(size=(1400, 3, 2))
    y = np.arange(1400) % 2
    y[30:] = -1
    fixed = {"hidden_layer_sizes": (512, 4, 4), "max_epochs": 1, "consistency": 0}
    params = {**fixed, **params}
    net = make_classifier(warm_start=True, **params).fit(X, y).net_
    assert net.decay_after == (None if n_epochs is None else n_epochs * net.n_batches)


def test_the_width_that_counts_is_that_of_the_weights_to_start_from(blobs, make_classifier):
    X, _, y = blobs
    narrow = make_classifier(hidden_layer_sizes=64, max_epochs=1).fit(X, y)
    clf = SSVAEClassifier(latent_dim=2, max_epochs=1, batch_size=64, random_state=0)
    assert clf.fit(X, y).net_.decay_after < narrow.net_.decay_after
    assert clf.fit(X, y, init_model=narrow).net_.decay_after == narrow.net_.decay_after


def test_a_stream_keeps_the_step_size_unless_told(blobs, make_classifier):
    X, _, y = blobs
    params = {"batch_size": 300, "learning_rate": 0.01, "callbacks": [_StepSizes()]}
    for decay_after, last in [("auto", 0.01), (1, 0.01 * 10**-1.5)]:
        clf = make_classifier(decay_after=decay_after, **params)
        for _ in range(10):
            clf.partial_fit(X, y, classes=[0, 1, 2])
        assert _StepSizes.of(clf) == pytest.approx([last])


def test_two_schedules_of_the_step_size_are_refused(blobs, make_classifier):
    X, _, y = blobs
    schedule = LRScheduler("StepLR", step_size=1)
    with pytest.raises(ValueError, match=r"decay_after=3 and the LRScheduler .* both set"):
        make_classifier(decay_after=3, callbacks=[schedule]).fit(X, y)


def test_the_divergence_gains_its_weight_in_even_steps(blobs, make_classifier):
    """One batch an epoch; the loss of each is the formula with the weight that it has."""
    X, _, y = blobs
    params = {"batch_size": 400, "beta": 2.0, "consistency": 0, "early_stopping": True}
    clf = make_classifier(kl_warmup=4, warm_start=True, **params).fit(X, y)
    clf.fit(X, y)
    terms = {name: values.astype(float) for name, values in clf.history_.items()}
    for share, prefix in [(np.minimum(np.arange(1, 11) / 4, 1), ""), (1, "valid_")]:
        elbo = terms[f"{prefix}log_prob"] - share * 2 * terms[f"{prefix}kl_divergence"]
        loss = -elbo / 5 + clf.alpha_ * terms[f"{prefix}cross_entropy"]
        np.testing.assert_allclose(terms[f"{prefix}loss"], loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "n_epochs"),
    [
        ({"batch_size": 64}, 6.5),
        ({"batch_size": 64, "hidden_layer_sizes": (16,)}, 6.5),
        ({"batch_size": 1}, 1),
        ({"batch_size": 64, "decay_after": None}, 6.5),
        ({"batch_size": 64, "prior": "normal"}, None),
        ({"batch_size": 64, "alpha": np.inf}, None),
        ({"batch_size": 64, "kl_warmup": None}, None),
    ],
)
def test_the_divergence_gains_its_weight_by_default_under_a_prior_of_classes(
    params, n_epochs, make_classifier
):
    X = np.random.RandomState(0).normal(size=(600, 2))
    y = np.where(np.arange(600) < 30, np.arange(600) % 2, -1)
    params = {"prior": "class_conditional", "consistency": 0, **params}
    clf = make_classifier(max_epochs=1, warm_start=True, **params).fit(X, y)
    wanted = None if n_epochs is None else np.ceil(n_epochs * clf.net_.n_batches)
    assert clf.net_.kl_warmup == wanted


def test_trained_weights_have_all_of_the_divergence(blobs, make_classifier):
    X, _, y = blobs
    trained = make_classifier(prior="class_conditional").fit(X, y)
    assert trained.net_.kl_warmup
    assert make_classifier().fit(X, y, init_model=trained).net_.kl_warmup is None
    assert trained.set_params(warm_start=True).fit(X, y).net_.kl_warmup is None


def test_the_divergence_gains_its_weight_over_the_first_chunks(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(batch_size=300, prior="class_conditional")
    shares = [clf.partial_fit(X, y, classes=[0, 1, 2]).net_.kl_share * 6.5 for _ in range(8)]
    assert shares == pytest.approx([1, 2, 3, 4, 5, 6, 6.5, 6.5], rel=0.1)


@pytest.mark.parametrize(
    "callback", [_StopAtEpoch(3), EarlyStopping("train_loss", threshold=10, patience=2)]
)
def test_a_callback_can_end_the_training(callback, blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(max_epochs=20, callbacks=[callback]).fit(X, y)
    assert clf.n_iter_ == 3
    assert clf.predict(X).shape == y.shape


def test_ctrl_c_raises_and_leaves_the_estimator_unfitted(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(callbacks=[_InterruptAtEpoch(2)])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not hasattr(clf, "net_")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_ctrl_c_keeps_the_model_of_before(method, blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(callbacks=[_InterruptAtEpoch(1)])
    with pytest.raises(KeyboardInterrupt):
        getattr(clf, method)(X, y)
    assert np.array_equal(clf.predict_proba(X), before)


def test_a_fit_that_is_refused_keeps_the_model_of_before(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier().fit(X, y)
    before = vars(clf).copy()
    with pytest.raises(ValueError, match="at least 2 classes"):
        clf.fit(X[:, :3], np.where(y == 0, 0, -1))
    assert vars(clf) == before


def test_a_loss_that_is_not_finite_says_where_and_what_to_do(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(batch_size=60, callbacks=[_Poison(2, 4)])
    with pytest.raises(ValueError, match=r"epoch 2, batch 5\..* lower learning_rate"):
        clf.fit(X, y)
    assert not hasattr(clf, "net_")


def test_weights_that_are_not_finite_after_the_last_step_are_found(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(batch_size=60, max_epochs=2, callbacks=[_Poison(2, 5)])
    with pytest.raises(ValueError, match=r"weights pi\.0\.bias are not finite .* epoch 2"):
        clf.fit(X, y)


@pytest.mark.parametrize("warm_start", [False, True])
def test_divergence_keeps_the_last_finite_state(warm_start, blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(warm_start=warm_start).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(callbacks=[_Poison(1, 1)])
    with pytest.raises(ValueError, match="The estimator is as it was"):
        clf.fit(X, y)
    assert np.array_equal(clf.predict_proba(X), before)


def test_a_huge_learning_rate_is_caught_as_divergence(blobs, make_classifier):
    X, _, y = blobs
    with pytest.raises(ValueError, match="The training has diverged"):
        make_classifier(learning_rate=1e30).fit(X, y)


@pytest.mark.parametrize("network", ["dense", "conv"])
def test_a_fit_ends_with_the_running_average_of_weights_and_statistics(
    network, blobs, make_classifier
):
    class SlowAverage(Callback):
        def on_batch_end(self, net, **kwargs):
            self.n_ = getattr(self, "n_", -1) + 1
            share = 1 - min(0.999, self.n_ / (self.n_ + 10))
            for name, value in net.module_.state_dict().items():
                old = average.get(name, 0.0)
                average[name] = old + share * (value.double().numpy() - old)

    average = {}
    X, _, y = blobs
    clf = make_classifier(
        network=network,
        input_shape=(2, 2),
        likelihood="heteroscedastic_gaussian",
        callbacks=[SlowAverage()],
        device="cpu",
    )
    state = clf.fit(X[:, :4], y).net_.module_.state_dict()
    floats = [name for name, value in state.items() if value.is_floating_point()]
    assert any("running_mean" in name for name in floats) == (network == "conv")
    for name in floats:
        np.testing.assert_allclose(state[name], average[name], rtol=1e-4, atol=1e-6)


def test_averaging_leaves_the_training_itself_alone(blobs, make_classifier):
    X, _, y = blobs
    last, averaged = (make_classifier(average=a).fit(X, y) for a in (False, True))
    assert np.array_equal(last.history_["loss"], averaged.history_["loss"])
    assert not np.array_equal(last.predict_proba(X), averaged.predict_proba(X))


def test_a_fit_without_average_goes_on_from_the_weights_of_the_last_batch(
    blobs, make_classifier
):
    X, _, y = blobs
    long = make_classifier(max_epochs=6, average=False).fit(X, y)
    clf = make_classifier(max_epochs=3, warm_start=True).fit(X, y)
    clf.set_params(average=False).fit(X, y)
    assert np.array_equal(clf.predict_proba(X), long.predict_proba(X))


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_a_warm_start_goes_on_as_if_the_variances_had_not_been_fitted(
    kind, blobs, make_classifier, make_detector
):
    X, _, y = blobs
    X = np.column_stack([X, np.ones(300)])
    make = {"classifier": make_classifier, "detector": make_detector}[kind]
    settings = {"average": False, "decay_after": None, "likelihood": "gaussian"}
    if kind == "detector":
        settings["anomaly_score"] = "log_prob"  # the other holds out rows anew
    long = make(max_epochs=6, **settings).fit(X, y)
    model = make(max_epochs=3, warm_start=True, **settings).fit(X, y)
    before = model.score_samples(X)
    model.fit(X, y)
    assert np.array_equal(model.score_samples(X), long.score_samples(X))
    assert not np.array_equal(model.score_samples(X), before)


@pytest.mark.parametrize(
    ("optimizer", "name"), [("rmsprop", "square_avg"), ("adam", "exp_avg")]
)
def test_no_running_average_of_the_optimizer_becomes_denormal(
    optimizer, name, blobs, make_classifier
):
    class KillUnit(Callback):
        def on_batch_end(self, net, **kwargs):
            layer = net.module_.encoder.layers[0]
            average = net.optimizer_.state[layer.weight][name]
            if net.n_batches == 1:
                with torch.no_grad():
                    layer.bias[0] = -1e6  # Never responds again: its gradients are zero.
                average[0] = 2 * VANISHED
            averages[net.n_batches] = average.clone()

    averages = {}
    X, _, y = blobs
    make_classifier(
        optimizer=optimizer,
        batch_size=len(X),
        max_epochs=CLEAR_EVERY,
        callbacks=[KillUnit()],
        device="cpu",
    ).fit(X, y)
    assert (averages[CLEAR_EVERY - 1][0] > torch.finfo(torch.float32).tiny).all()
    assert not averages[CLEAR_EVERY][0].any()
    assert averages[CLEAR_EVERY][1:].any()


def test_clearing_the_optimizers_vanished_averages_leaves_the_training_alone(
    blobs, make_classifier, monkeypatch
):
    X, _, y = blobs
    settings = {"optimizer": "rmsprop", "max_epochs": 30, "batch_size": 20}
    fitted = []
    for every in (1, 10**9):
        monkeypatch.setattr("sklearn_ssvae._net.CLEAR_EVERY", every)
        fitted.append(make_classifier(**settings).fit(X, y).predict_proba(X))
    np.testing.assert_allclose(*fitted, rtol=1e-5)


def test_early_stopping_keeps_its_best_epoch_and_no_average(blobs, make_classifier):
    X, _, y = blobs
    last, averaged = (
        make_classifier(average=a, early_stopping=True).fit(X, y) for a in (False, True)
    )
    assert np.array_equal(last.predict_proba(X), averaged.predict_proba(X))


def test_history_has_every_term_of_every_epoch_and_their_sum(blobs, make_classifier):
    X, _, y = blobs
    params = {"alpha": 2.0, "beta": 0.5, "consistency": 3.0, "kl_warmup": None}
    clf = make_classifier(max_epochs=4, **params).fit(X, y)
    history = clf.history_
    assert set(history) == {
        "loss",
        "log_prob",
        "kl_divergence",
        "cross_entropy",
        "inconsistency",
        "imbalance",
    }
    assert all(values.shape == (4,) for values in history.values())
    elbo = history["log_prob"] - 0.5 * history["kl_divergence"]
    consistency = 3.0 / X.shape[1] * (history["inconsistency"] + 3 * history["imbalance"])
    np.testing.assert_allclose(
        history["loss"],
        -elbo / X.shape[1] + 2.0 * history["cross_entropy"] + consistency,
        rtol=1e-5,
    )
    assert history["loss"][-1] < history["loss"][0]
    assert clf.n_iter_ == 4


@pytest.mark.parametrize("params", [{}, {"alpha": np.inf}])
def test_the_terms_of_held_out_rows_do_not_depend_on_the_batches(
    params, blobs, make_classifier
):
    """A batch of few held-out rows may have no label at all."""
    X, y_true, _ = blobs
    y = np.where(np.arange(300) % 10 == 0, y_true, -1)
    clf = make_classifier(early_stopping=True, max_epochs=1, shrinkage=0, **params).fit(X, y)
    rows = Rows(X, np.where(np.arange(300) < 9, y_true, -1).astype(np.int32)[:, None])

    def terms(batch_size):
        net = clf.net_.set_params(batch_size=batch_size)
        net.history.new_epoch()
        net.run_single_epoch(
            net.get_iterator(rows), training=False, prefix="valid", step_fn=net.validation_step
        )
        return {k: v for k, v in net.epoch_terms[-1].items() if k.startswith("valid_")}

    whole, parts = terms(300), terms(8)
    assert whole.keys() == parts.keys()
    assert parts == pytest.approx(whole, rel=1e-4)
    log_proba = clf.predict_log_proba(X[:9])
    expected = -log_proba[np.arange(9), y_true[:9]].mean()
    assert parts["valid_cross_entropy"] == pytest.approx(expected, rel=1e-4)


def test_history_keeps_no_record_of_batches(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(max_epochs=3).fit(X, y)
    assert [len(epoch["batches"]) for epoch in clf.net_.history] == [0, 0, 0]


def test_quiet_by_default(blobs, make_classifier, capfd):
    X, _, y = blobs
    make_classifier(early_stopping=True, n_iter_no_change=1).fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_verbose_shows_a_bar_with_the_terms(blobs, make_classifier, capfd):
    X, _, y = blobs
    make_classifier(verbose=1).fit(X, y)
    shown = capfd.readouterr().err
    assert "5/5" in shown
    for term in ("loss=", "log_prob=", "kl_divergence=", "cross_entropy="):
        assert term in shown


def test_net_params_reach_skorch_and_the_optimizer(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(net_params={"optimizer__weight_decay": 0.5}).fit(X, y)
    assert clf.net_.optimizer_.param_groups[0]["weight_decay"] == 0.5


def test_the_papers_optimizer_is_rmsprop_with_smoothing_and_no_momentum(
    blobs, make_classifier
):
    X, _, y = blobs
    group = make_classifier(optimizer="rmsprop").fit(X, y).net_.optimizer_.param_groups[0]
    assert (group["alpha"], group["momentum"]) == (0.9, 0)


def test_an_optimizer_class_of_torch_works(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(optimizer=torch.optim.SGD, learning_rate=0.05).fit(X, y)
    assert isinstance(clf.net_.optimizer_, torch.optim.SGD)


def test_one_thread_while_a_small_net_works_and_the_users_number_afterwards(
    blobs, make_classifier
):
    class NoteThreads(Callback):
        def on_epoch_end(self, net, **kwargs):
            threads.append(torch.get_num_threads())

    threads = []
    X, _, y = blobs
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        make_classifier(max_epochs=1, callbacks=[NoteThreads()]).fit(X, y).predict(X)
        assert threads == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_overlapping_fits_leave_every_thread_the_users_number():
    """Each thread has a number of its own, and there is one for threads to come."""
    before = torch.get_num_threads()
    barrier, numbers = threading.Barrier(4), []

    def work(position):
        with ExitStack() as stack:
            for turn in range(4):
                barrier.wait()
                if turn == position:
                    stack.enter_context(one_thread)
                    stack.enter_context(one_thread)  # a prediction within a fit
            assert torch.get_num_threads() == 1
        numbers.append(torch.get_num_threads())

    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        with ThreadPoolExecutor(1) as pool:
            numbers.append(pool.submit(torch.get_num_threads).result())
        assert numbers == [3] * 5
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_sums_on_a_gpu_have_one_order_until_the_last_of_overlapping_trainings_ends():
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic
    first, second = ExitStack(), ExitStack()
    first.enter_context(repeatable)
    second.enter_context(repeatable)
    first.close()
    assert cudnn.deterministic
    second.close()
    assert cudnn.deterministic == before
