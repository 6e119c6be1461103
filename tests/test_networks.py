import copy
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier, paper_params
from sklearn_ssvae._priors import PRIORS
from sklearn_ssvae.networks import (
    NETWORKS,
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    Dropout,
)

IMAGES = [(1, 1), (1, 5), (2, 2), (7, 4), (28, 28), (9, 9, 1), (5, 8, 3)]
SHAPES = {
    "dense": [(1,), (7,), (5, 3), (3, 4, 2)],
    "conv": IMAGES,
    "small_norb": IMAGES,
    "recurrent": [(1,), (6,), (1, 1), (5, 3)],
}


@pytest.mark.parametrize("hidden_layer_sizes", [(4,), (9, 4), (9, 5, 4)])
@pytest.mark.parametrize(
    ("network", "shape"), [(name, shape) for name in NETWORKS for shape in SHAPES[name]]
)
def test_a_pair_keeps_the_shapes_of_its_contract(network, shape, hidden_layer_sizes):
    encoder_class, decoder_class = NETWORKS[network]
    encoder = encoder_class(shape, hidden_layer_sizes)
    decoder = decoder_class(5, shape, 2, hidden_layer_sizes)
    steps = (encoder.n_steps,) if network == "recurrent" else ()
    assert encoder(torch.zeros(3, *shape)).shape == (3, *steps, encoder.n_out)
    assert decoder(torch.zeros(3, *steps, 5)).shape == (3, 2, *shape)
    assert isinstance(decoder.input_layer, nn.Linear)
    assert decoder.input_layer.in_features == 5


@pytest.mark.parametrize("network", NETWORKS)
def test_a_batch_of_one_row_can_be_trained_on(network):
    encoder_class, decoder_class = NETWORKS[network]
    shape = SHAPES[network][0]
    encoder, decoder = encoder_class(shape, (4,)), decoder_class(4, shape, 1, (4,))
    assert torch.isfinite(decoder(encoder(torch.ones(1, *shape)))).all()


def _outputs(module, x):
    """Shape of the output of each layer that computes, in the order of the pass."""
    shapes = []
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.LSTM)
    for layer in module.modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(
                lambda layer, _, out: shapes.append(
                    (type(layer).__name__.strip("_"), *out.shape[1:])
                )
            )
    module(x)
    return shapes


def _paper_pair(name, shape, n_in, n_params):
    params = paper_params(name)
    encoder_class, decoder_class = NETWORKS[params["network"]]
    sizes = params["hidden_layer_sizes"]
    return encoder_class(shape, sizes), decoder_class(n_in, shape, n_params, sizes)


def test_dense_is_table_13_of_the_paper():
    encoder, decoder = _paper_pair("dense", (784,), 12, 1)
    assert _outputs(encoder, torch.zeros(1, 784)) == [("Linear", 1024), ("Linear", 1024)]
    assert _outputs(decoder, torch.zeros(1, 12)) == [
        ("Linear", 1024),
        ("Linear", 1024),
        ("Linear", 784),
    ]


def test_conv_is_table_14_of_the_paper():
    encoder, decoder = _paper_pair("conv", (28, 28), 12, 1)
    assert _outputs(encoder, torch.zeros(2, 28, 28)) == [
        ("Conv2d", 64, 28, 28),
        ("Conv2d", 64, 28, 28),
        ("Conv2d", 64, 14, 14),
        ("Linear", 512),
    ]
    assert _outputs(decoder, torch.zeros(2, 12)) == [
        ("Linear", 12544),
        ("ConvTranspose2d", 64, 14, 14),
        ("ConvTranspose2d", 64, 14, 14),
        ("ConvTranspose2d", 64, 28, 28),
        ("ConvTranspose2d", 1, 28, 28),
    ]
    rates = [layer.p for layer in encoder.modules() if isinstance(layer, Dropout)]
    assert rates == [0.5]


def test_recurrent_is_table_15_of_the_paper():
    encoder, decoder = _paper_pair("recurrent", (128, 6), 8, 2)
    assert _outputs(encoder, torch.zeros(1, 128, 6)) == [
        ("Linear", 128, 40),
        ("LSTM", 128, 40),
        ("Linear", 128, 30),
    ]
    assert _outputs(decoder, torch.zeros(1, 128, 8)) == [
        ("Linear", 128, 30),
        ("LSTM", 128, 40),
        ("Linear", 128, 40),
        ("Linear", 128, 12),
    ]


def test_small_norb_is_table_16_of_the_paper():
    encoder, decoder = _paper_pair("small_norb", (96, 96, 2), 32, 1)
    assert _outputs(encoder, torch.zeros(1, 96, 96, 2)) == [
        ("Conv2d", 32, 48, 48),
        ("Conv2d", 32, 24, 24),
        ("Conv2d", 64, 12, 12),
        ("Conv2d", 64, 6, 6),
        ("Linear", 256),
    ]
    assert _outputs(decoder, torch.zeros(1, 32)) == [
        ("Linear", 2304),
        ("ConvTranspose2d", 64, 12, 12),
        ("ConvTranspose2d", 64, 24, 24),
        ("ConvTranspose2d", 32, 48, 48),
        ("ConvTranspose2d", 32, 96, 96),
        ("ConvTranspose2d", 2, 96, 96),
    ]


def test_channels_of_an_image_stay_apart():
    """A channel that the decoder's last layer alone lifts is lifted in the output."""
    decoder = ConvDecoder(3, (4, 5, 2), 1, (6,)).eval()
    before = decoder(torch.ones(1, 3))
    with torch.no_grad():
        decoder.convolutions[-1].bias[1] += 10.0
    difference = (decoder(torch.ones(1, 3)) - before)[0, 0]
    torch.testing.assert_close(difference[..., 0], torch.zeros(4, 5))
    torch.testing.assert_close(difference[..., 1], torch.full((4, 5), 10.0))


def test_dropout_draws_from_its_generator_and_keeps_the_mean():
    layer = Dropout(0.25)
    draws = []
    state = torch.get_rng_state()
    for _ in range(2):
        layer.generator = torch.Generator().manual_seed(0)
        draws.append(layer(torch.ones(20000)))
    assert torch.equal(*draws)
    assert torch.equal(torch.get_rng_state(), state)
    assert draws[0].mean().item() == pytest.approx(1, abs=0.02)
    assert (draws[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    x = torch.ones(3)
    assert layer.eval()(x) is x


# Networks within the estimators


def _bars(n=160, side=8, seed=0):
    """Images of one bright row or column, and which of the two."""
    rng = np.random.RandomState(seed)
    X = 0.2 * rng.uniform(size=(n, side, side))
    y = rng.randint(2, size=n)
    for image, label, at in zip(X, y, rng.randint(side, size=n)):
        image[(at, slice(None)) if label else (slice(None), at)] = 1.0
    return X, y


def _waves(n=120, length=12, seed=0):
    """Series of two features, slow or fast."""
    rng = np.random.RandomState(seed)
    y = rng.randint(2, size=n)
    phase = rng.uniform(0, 6, size=(n, 1))
    t = np.arange(length) * np.where(y, 0.4, 1.6)[:, None] + phase
    X = np.stack([np.sin(t), np.cos(t)], axis=2)
    return X + 0.1 * rng.normal(size=X.shape), y


SMALL = {"hidden_layer_sizes": (32,), "latent_dim": 4, "max_epochs": 30, "random_state": 0}
SMALL_CONV = (
    partial(ConvEncoder, channels=(8, 8), strides=(1, 2), dropout=0.1),
    partial(ConvDecoder, channels=(8, 8), strides=(1, 2), dropout=0.1),
)
CASES = {
    "conv": (_bars, {"network": SMALL_CONV, "max_epochs": 40}),
    "recurrent": (
        _waves,
        {"network": "recurrent", "hidden_layer_sizes": (16, 16, 8), "learning_rate": 0.01},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_network_learns_embeds_reconstructs_and_generates(case):
    make, params = CASES[case]
    X, y = make()
    y_partly = np.where(np.arange(len(y)) < 80, y, -1)
    clf = SSVAEClassifier(**{**SMALL, "alpha": 1.0, "beta": 0.1, **params}).fit(X, y_partly)
    X_test, y_test = make(seed=1)
    assert clf.score(X_test, y_test) > 0.9
    n_latent = 4 * (X.shape[1] if case == "recurrent" else 1)
    Z = clf.transform(X_test)
    assert Z.shape == (len(X_test), n_latent)
    assert clf.get_feature_names_out().shape == (n_latent,)
    assert clf.inverse_transform(Z).shape == X_test.shape
    assert clf.reconstruct(X_test).shape == X_test.shape
    error = np.mean((clf.reconstruct(X_test) - X_test) ** 2)
    assert error < np.var(X_test, axis=0).mean()
    X_new, y_new = clf.sample(20, y=[0] * 10 + [1] * 10, random_state=0)
    assert X_new.shape == (20, *X.shape[1:])
    assert y_new.tolist() == [0] * 10 + [1] * 10


@pytest.mark.filterwarnings("ignore:This processor has no units for bfloat16")
@pytest.mark.parametrize("case", ["dense", *CASES])
def test_training_in_bfloat16_goes_as_in_float32(case):
    make, params = CASES.get(case, (_bars, {}))
    X, y = make()
    y_partly = np.where(np.arange(len(y)) < 80, y, -1)
    settings = {**SMALL, "alpha": 1.0, "beta": 0.1, **params, "max_epochs": 5}
    full, half = (
        SSVAEClassifier(**settings, precision=precision).fit(X, y_partly)
        for precision in ("float32", "bfloat16")
    )
    for name in ("loss", "log_prob", "kl_divergence", "cross_entropy"):
        assert not np.array_equal(half.history_[name], full.history_[name])
        np.testing.assert_allclose(half.history_[name], full.history_[name], rtol=0.02)
    assert {value.dtype for value in half.net_.module_.parameters()} == {torch.float32}
    np.testing.assert_allclose(half.predict_proba(X), full.predict_proba(X), atol=0.05)


@pytest.mark.filterwarnings("ignore:This processor has no units for bfloat16")
def test_an_lstm_that_reads_the_rows_themselves_trains_in_bfloat16_on_any_processor():
    X, y = CASES["recurrent"][0]()
    params = {**SMALL, "network": "recurrent", "hidden_layer_sizes": (8,), "max_epochs": 2}
    clf = SSVAEClassifier(**params, precision="bfloat16").fit(X, y)
    assert np.isfinite(clf.history_["loss"]).all()


@pytest.mark.parametrize(
    ("capability", "precision", "warns"),
    [("AVX2", "bfloat16", True), ("AVX2", "float32", False), ("AVX512", "bfloat16", False)],
)
def test_a_processor_without_units_for_bfloat16_warns(
    capability, precision, warns, monkeypatch, blobs, make_classifier
):
    X, _, y = blobs
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    clf = make_classifier(max_epochs=1, device="cpu", precision=precision)
    with pytest.warns(UserWarning, match="no units") if warns else nullcontext():
        clf.fit(X, y)


@pytest.mark.parametrize("case", CASES)
def test_rows_may_come_flat_with_an_input_shape(case):
    make, params = CASES[case]
    X, y = make()
    own = SSVAEClassifier(**{**SMALL, **params, "max_epochs": 2}).fit(X, y)
    flat = clone(own).set_params(input_shape=X.shape[1:]).fit(X.reshape(len(X), -1), y)
    assert np.array_equal(own.predict_proba(X), flat.predict_proba(X.reshape(len(X), -1)))


@pytest.mark.parametrize("case", CASES)
def test_a_row_has_one_score_in_any_company(case, make_detector):
    make, params = CASES[case]
    X, y = make()
    det = make_detector(**{**SMALL, **params, "max_epochs": 2}).fit(X, y)
    scores = det.score_samples(X)
    some = np.random.RandomState(0).permutation(len(X))[:7]
    np.testing.assert_allclose(det.score_samples(X[some]), scores[some], rtol=1e-9)
    plain = det.set_params(anomaly_score="log_prob", max_epochs=1).fit(X, y)
    np.testing.assert_allclose(
        plain.score_features(X).reshape(len(X), -1).sum(axis=1), plain.score_samples(X)
    )


def test_a_fitted_model_convolves_in_float32_and_does_the_rest_in_float64(make_detector):
    X, _ = _bars()
    settings = {**SMALL, **CASES["conv"][1], "max_epochs": 2, "anomaly_score": "log_prob"}
    det = make_detector(**settings, device="cpu").fit(X)
    module = det.net_.inference_module
    for part in (module.encoder, module.decoder):
        stack = part.convolutions
        assert {value.dtype for value in stack.parameters()} == {torch.float32}
    assert module.dtype == module.decoder.input_layer.weight.dtype == torch.float64
    exact = copy.deepcopy(det.net_.module_).double().eval()
    rows = torch.from_numpy(X.reshape(len(X), -1))
    expected = exact.log_prob(rows).sum(dim=1).detach().numpy()
    np.testing.assert_allclose(det.score_samples(X), expected, rtol=1e-5)


class _EncoderOfAList(ConvEncoder):
    """Goes through its convolutions one by one."""

    def __init__(self, input_shape, hidden_layer_sizes):
        super().__init__(input_shape, hidden_layer_sizes, channels=(8, 8), strides=(1, 2))
        self.convolutions = nn.ModuleList(self.convolutions)

    def forward(self, x):
        h = x[:, None]
        for layer in self.convolutions:
            h = layer(h)
        return self.layers(h.flatten(1))


def test_convolutions_in_a_list_stay_as_they_are(make_classifier):
    X, y = _bars()
    network = (_EncoderOfAList, DenseDecoder)
    clf = make_classifier(network=network, max_epochs=2).fit(X, y)
    assert clf.predict_proba(X).shape == (len(X), 2)
    convolution = clf.net_.inference_module.encoder.convolutions[0]
    assert convolution.weight.dtype == torch.float64


def test_training_with_dropout_repeats_and_leaves_the_global_state(make_classifier):
    X, y = _bars()
    params = {**SMALL, **CASES["conv"][1], "max_epochs": 2}
    state = torch.get_rng_state()
    first = make_classifier(**params).fit(X, y).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert np.array_equal(make_classifier(**params).fit(X, y).predict_proba(X), first)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        ("conv", (20,), "needs images.*input_shape"),
        ("small_norb", (2, 3, 4, 5), "needs images"),
        ("recurrent", (2, 3, 4), "needs series.*input_shape"),
    ],
)
def test_rows_of_another_shape_are_refused_with_advice(network, shape, message, make_detector):
    X = np.random.RandomState(0).normal(size=(10, *shape))
    with pytest.raises(ValueError, match=message):
        make_detector(network=network).fit(X)


# Networks of the user's own


class _ResidualEncoder(nn.Module):
    def __init__(self, input_shape, hidden_layer_sizes):
        super().__init__()
        self.n_out = hidden_layer_sizes[0]
        self.first = nn.Linear(input_shape[0], self.n_out)
        self.second = nn.Linear(self.n_out, self.n_out)

    def forward(self, x):
        h = torch.relu(self.first(x))
        return h + torch.relu(self.second(h))


@pytest.mark.parametrize(
    ("network", "sizes", "n_samples", "prior"),
    [
        ("dense", (512, 512), 99, "normal"),
        ("dense", (512, 512), 100, "class_conditional"),
        ("conv", (512,), 100, "class_conditional"),
        ("small_norb", (256,), 100, "class_conditional"),
        ("recurrent", (40, 40, 30), 100, "normal"),
    ],
)
def test_auto_sizes_and_prior_follow_the_network_and_the_rows(
    network, sizes, n_samples, prior
):
    X = np.random.RandomState(0).uniform(size=(n_samples, 4, 3))
    y = np.where(np.arange(n_samples) < 20, np.arange(n_samples) % 2, -1)
    params = {"network": network, "max_epochs": 1, "random_state": 0}
    clf = SSVAEClassifier(**params).fit(X, y)
    module = clf.net_.module_
    widths = [m.hidden_size for m in module.encoder.modules() if isinstance(m, nn.LSTM)]
    widths += [m.out_features for m in module.encoder.modules() if isinstance(m, nn.Linear)]
    assert sorted(widths) == sorted(sizes)
    assert isinstance(module.prior, PRIORS[prior])
    if network == "dense":
        det = SSVAEAnomalyDetector(**params).fit(X)
        encoder = det.net_.module_.encoder
        assert [m.out_features for m in encoder.layers[::2]] == [512, 128]


def test_a_network_of_ones_own_works_as_a_pair(blobs, make_classifier):
    X, y, y_partly = blobs
    own = make_classifier(network=(_ResidualEncoder, DenseDecoder), max_epochs=30)
    clf = clone(own).fit(X, y_partly)
    assert isinstance(clf.net_.module_.encoder, _ResidualEncoder)
    assert clf.score(X, y) > 0.9
    clf.set_params(warm_start=True).fit(X, y_partly)
    assert clf.n_iter_ == 60


@pytest.mark.parametrize("network", [("dense", "dense"), (DenseEncoder,), "deep"])
def test_a_network_that_is_neither_name_nor_pair_is_refused(network, blobs, make_classifier):
    with pytest.raises(ValueError, match="network"):
        make_classifier(network=network).fit(blobs[0], blobs[2])


class _Vae(nn.Module):
    """A VAE as its owner may have written it."""

    def __init__(self, n_features=5):
        super().__init__()
        self.encoder = DenseEncoder((n_features,), (16,))
        self.mean = nn.Linear(16, 2)
        self.log_var = nn.Linear(16, 2)
        self.decoder = DenseDecoder(2, (n_features,), 1, (16,))

    def reconstruct(self, x):
        return self.decoder(self.mean(self.encoder(x)))[:, 0]


def test_a_trained_vae_of_ones_own_keeps_its_weights(blobs, make_classifier, make_detector):
    X = (blobs[0] - blobs[0].mean(0)) / blobs[0].std(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = _Vae()
    with torch.no_grad():
        expected = vae.reconstruct(torch.from_numpy(X).float()).numpy()
    still = {"learning_rate": 1e-12, "max_epochs": 1, "likelihood": "gaussian"}
    det = make_detector(**still).fit(X, init_model=vae)
    np.testing.assert_allclose(det.reconstruct(X), expected, atol=1e-5)
    clf = make_classifier(**still).fit(X, blobs[2], init_model=vae)
    np.testing.assert_allclose(clf.reconstruct(X), expected, atol=1e-5)
    trained = make_classifier(max_epochs=40).fit(X, blobs[2], init_model=vae)
    assert trained.score(X, blobs[1]) > 0.9


def test_a_vae_that_does_not_fit_is_refused_with_the_part_that_does_not(
    blobs, make_classifier
):
    X, _, y = blobs
    with pytest.raises(ValueError, match=r"init_model\.encoder do not fit"):
        make_classifier().fit(X, y, init_model=_Vae(n_features=4))
    with pytest.raises(TypeError, match="no part 'mean'"):
        make_classifier().fit(
            X, y, init_model=nn.ModuleDict({"encoder": DenseEncoder((5,), (16,))})
        )


def test_a_vae_has_no_place_in_an_encoder_alone(blobs, make_classifier):
    with pytest.raises(ValueError, match="alpha=inf there is no decoder"):
        make_classifier(alpha=np.inf).fit(blobs[0], blobs[2], init_model=_Vae())


class _Attention(nn.Module):
    """Attention whose width is not a multiple of eight."""

    def __init__(self, input_shape, hidden_layer_sizes):
        super().__init__()
        self.n_out = 6
        self.lift = nn.Linear(1, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        h = self.lift(x[..., None])
        return self.attention(h, h, h)[0].mean(dim=1)


def test_layers_that_are_more_than_linear_stay_as_they_are(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(network=(_Attention, DenseDecoder)).fit(X, y)
    assert clf.predict(X).shape == (300,)
