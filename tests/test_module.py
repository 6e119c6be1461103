import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from sklearn_ssvae._likelihoods import LIKELIHOODS
from sklearn_ssvae._module import SSVAE, TRIAL_SHARE, unit_rows


def _module(seed=0, **changes):
    settings = {
        "network": "dense",
        "input_shape": (6,),
        "hidden_layer_sizes": (8, 5),
        "latent_dim": 2,
        "likelihood": "gaussian",
        "prior": "normal",
        "decoder_label": "predicted",
        "n_classes": {"0": 3},
        "n_generative_classes": {"0": 3},
        "has_decoder": True,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SSVAE(**{**settings, **changes}).double()


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_gradient_reaches_every_weight(likelihood, x):
    module = _module(likelihood=likelihood)
    logits, log_prob, kl, _ = module(x, torch.Generator().manual_seed(0))
    (logits["0"].sum() + log_prob.sum() + kl.sum()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_the_forward_pass_is_the_textbook_one(x):
    """Redo it layer by layer with plain matrix products."""
    module = _module()
    shift, scale = torch.arange(6.0).double(), torch.full((6,), 2.0).double()
    module.shift.copy_(shift)
    module.scale.copy_(scale)
    weights = {k: v.detach().numpy() for k, v in module.state_dict().items()}

    def linear(name, h):
        return h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    rows = ((x - shift) / scale).numpy()
    h = np.maximum(linear("encoder.layers.0", rows), 0)
    h = np.maximum(linear("encoder.layers.2", h), 0)
    logits, mean, log_var = linear("pi.0", h), linear("mean", h), linear("log_var", h)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(3)).numpy()
    z = mean + np.exp(log_var / 2) * noise
    pi = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    h = np.maximum(linear("decoder.input_layer", np.hstack([pi, z])), 0)
    h = np.maximum(linear("decoder.layers.1.0", h), 0)
    decoded = linear("decoder.layers.2", h)
    variance = 1e-4 + np.exp(weights["likelihood.raw_log_var"])
    log_prob = -0.5 * (np.log(2 * np.pi * variance) + (rows - decoded) ** 2 / variance)
    kl = 0.5 * (mean**2 + np.exp(log_var) - log_var - 1).sum(1)

    with torch.no_grad():
        out = module(x, torch.Generator().manual_seed(3))
    np.testing.assert_allclose(out[0]["0"], logits)
    np.testing.assert_allclose(out[1], log_prob)
    np.testing.assert_allclose(out[2], kl)


def test_without_a_generator_z_is_the_mean(x):
    module = _module()
    first, again = module(x), module(x)
    assert torch.equal(first[0]["0"], again[0]["0"])
    assert all(torch.equal(a, b) for a, b in zip(first[1:3], again[1:3]))
    noisy = module(x, torch.Generator().manual_seed(0))
    assert not torch.equal(first[1], noisy[1])


def test_log_prob_is_a_density_in_the_units_of_the_rows(x):
    module = _module()
    module.shift.fill_(5.0)
    module.scale.fill_(3.0)
    standardized = (x - 5) / 3
    plain = _module()
    torch.testing.assert_close(module.log_prob(x), plain.log_prob(standardized) - np.log(3))


def test_the_decoder_reads_pi(x):
    module = _module()
    z = torch.zeros(3, 2).double()
    decoded = module.decode(torch.eye(3).double(), z)
    assert not torch.allclose(decoded[0], decoded[1])


def test_siblings_lack_what_they_lack(x):
    es = _module(has_decoder=False, n_generative_classes={"0": 0})
    logits, log_prob, kl, _ = es(x)
    assert log_prob is None
    assert kl is None
    assert logits["0"].shape == (4, 3)
    assert not any("decoder" in name or "mean" in name for name in es.state_dict())
    eu = _module(n_classes={}, n_generative_classes={})
    logits, log_prob, kl, _ = eu(x)
    assert logits == {}
    assert log_prob.shape == (4, 6)
    assert kl.shape == (4,)
    assert not any(name.startswith("pi") for name in eu.state_dict())


def test_rows_are_standardized_before_they_lose_their_digits():
    """Seconds since 1970 differ by less than float32 can tell apart."""
    module = _module(input_shape=(1,)).float()
    times = torch.tensor([[1.7e9], [1.7e9 + 1]], dtype=torch.float64)
    module.shift.fill_(1.7e9)
    assert module.standardize(times).flatten().tolist() == [0.0, 1.0]


def test_a_new_pi_head_leaves_the_function_as_it_was(x):
    unlabeled = _module(n_classes={}, n_generative_classes={})
    labeled = _module(seed=1)
    labeled.carry_over(unlabeled, {"0": []})
    torch.testing.assert_close(labeled.reconstruct(x), unlabeled.reconstruct(x))
    torch.testing.assert_close(labeled.log_prob(x), unlabeled.log_prob(x))


def test_known_classes_keep_their_weights_when_a_class_is_added(x):
    old, new = _module(), _module(seed=1, n_classes={"0": 4}, n_generative_classes={"0": 4})
    pairs = [(0, 0), (1, 1), (3, 2)]
    new.carry_over(old, {"0": pairs})
    here, there = [list(side) for side in zip(*pairs)]
    torch.testing.assert_close(new(x)[0]["0"][:, here], old(x)[0]["0"][:, there])
    z, eye = torch.ones(3, 2).double(), torch.eye(4).double()
    torch.testing.assert_close(
        new.decode(eye[here], z), old.decode(torch.eye(3).double()[there], z)
    )


def test_several_heads_stand_side_by_side_before_the_decoder(x):
    module = _module(n_classes={"0": 3, "1": 2}, n_generative_classes={"0": 3, "1": 2})
    logits, mean, _ = module.encode(module.standardize(x))
    labels = module.decoder_labels(logits)
    expected = torch.cat([torch.softmax(logits[name], 1) for name in ("0", "1")], dim=1)
    torch.testing.assert_close(labels, expected)
    torch.testing.assert_close(
        module(x)[1], module.likelihood.log_prob(module.decode(labels, mean), x)
    )


def test_the_decoder_reads_the_label_where_a_row_has_one(x):
    module = _module()
    module.decoder_label = "observed"
    codes = torch.tensor([[2], [-1], [0], [-1]])
    logits, mean, _ = module.encode(x)
    labels = torch.softmax(logits["0"], dim=1)
    labels[0], labels[2] = torch.eye(3)[2], torch.eye(3)[0]
    expected = module.likelihood.log_prob(module.decode(labels, mean), x)
    torch.testing.assert_close(module(x, codes=codes)[1], expected)


def test_a_decoder_that_reads_no_class_ignores_the_labels(x):
    module = _module(decoder_label=None)
    codes = torch.tensor([[2], [1], [0], [1]])
    assert torch.equal(module(x)[1], module(x, codes=codes)[1])
    assert module.decoder.input_layer.in_features == 2


def test_known_heads_keep_their_columns_when_a_head_is_added(x):
    one = {"1": 2}
    old = _module(n_classes=one, n_generative_classes=one)
    two = {"0": 3, "1": 2}
    new = _module(seed=1, n_classes=two, n_generative_classes=two)
    new.carry_over(old, {"1": [(0, 0), (1, 1)]})
    torch.testing.assert_close(new.log_prob(x), old.log_prob(x))
    torch.testing.assert_close(new(x)[0]["1"], old(x)[0]["1"])


def _divergence(module, target, rows):
    """KL(target || pi(rows)) by torch.distributions, a mean over the heads."""
    logits = module.encode(rows)[0]
    return torch.stack(
        [
            kl_divergence(Categorical(logits=target[name]), Categorical(logits=values))
            for name, values in logits.items()
        ]
    ).mean(dim=0)


SERIES = {"network": "recurrent", "input_shape": (3, 2), "hidden_layer_sizes": (9, 8, 9)}


def test_class_probabilities_of_a_series_are_the_geometric_mean_over_its_steps(x):
    """A slow loop: the product of the steps' probabilities, its root, normalized."""
    module = _module(**SERIES)
    top = module.encoder(x.unflatten(1, (3, 2)))
    by_step = torch.softmax(module.pi["0"](top), dim=2).tolist()
    found = torch.softmax(module.encode(x)[0]["0"], dim=1)
    for row, steps in zip(found.tolist(), by_step):
        pooled = [math.prod(step[k] for step in steps) ** (1 / 3) for k in range(3)]
        assert row == pytest.approx([value / sum(pooled) for value in pooled])


def test_a_step_that_leaves_the_class_open_does_not_change_which_is_ahead():
    module = _module(**SERIES)
    module.pi["0"] = torch.nn.Identity()
    decided = torch.tensor([[[2.0, 0.0, 1.0]], [[0.0, 4.0, -1.0]]])
    undecided = torch.tensor([[[9.0, 9.0, 9.0]], [[-5.0, -5.0, -5.0]]])
    found = module.class_logits(torch.cat([undecided, decided], dim=1))["0"]
    assert found.argsort(dim=1).tolist() == decided[:, 0].argsort(dim=1).tolist()


def test_the_decoder_of_a_series_reads_the_same_classes_at_each_step(x):
    """What `sample` gives it; pi of each step would be a way around z that costs nothing."""
    module = _module(**SERIES)
    read = []
    module.decoder.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    _, mean, _ = module.encode(x)
    module.reconstruct(x)
    module(x, codes=torch.tensor([[0], [-1], [2], [-1]]))
    pi = torch.softmax(module.encode(x)[0]["0"], dim=1)
    for step in range(3):
        torch.testing.assert_close(read[0][:, step], torch.cat([pi, mean[:, step]], dim=1))
    torch.testing.assert_close(read[1], read[0])


@pytest.mark.parametrize("shape", [{}, SERIES], ids=["dense", "series"])
@pytest.mark.parametrize("n_classes", [{"0": 3}, {"0": 3, "1": 2}])
def test_inconsistency_is_the_change_of_pi_at_other_rows_and_the_adversary(
    n_classes, shape, x
):
    """The adversary row by row: one trial step, then its gradient by differences."""
    module = _module(n_classes=n_classes, n_generative_classes=n_classes, **shape)
    for weights in module.parameters():
        weights.data *= 3  # pi of the first weights of an LSTM hardly changes
    logits = module.encode(x)[0]
    others = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(5)).double()
    found = module.inconsistency(x, logits, list(others), torch.Generator().manual_seed(1))

    trial = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).double()
    radius = 0.3 * 6**0.5
    trial *= TRIAL_SHARE * radius / trial.norm(dim=1, keepdim=True)
    step = 1e-6 * torch.eye(6).double()
    for row in range(4):
        target = {name: values[row : row + 1] for name, values in logits.items()}
        gradient = torch.cat(
            [
                _divergence(module, target, x[row : row + 1] + trial[row] + d)
                - _divergence(module, target, x[row : row + 1] + trial[row] - d)
                for d in step
            ]
        )
        adversary = x[row] + radius * gradient / gradient.norm()
        expected = _divergence(module, target, adversary[None]) + sum(
            _divergence(module, target, other[row : row + 1]) for other in others
        )
        assert found[row].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("size", [1e-37, 1e-24, 1.0, 1e30])
def test_a_direction_has_length_one_however_small_the_gradient(size):
    rows = torch.randn(3, 784, generator=torch.Generator().manual_seed(0))
    rows[1] = 0
    expected = rows.double() / rows.double().norm(dim=1, keepdim=True).clamp(min=1e-9)
    torch.testing.assert_close(unit_rows(size * rows), expected.float())


@pytest.mark.parametrize(
    ("likelihood", "n_features", "radius"),
    [
        ("gaussian", 4, 0.6),
        ("gaussian", 100, 1.5),
        ("bernoulli", 4, 0.4),
        ("bernoulli", 100, 1.0),
    ],
)
def test_the_adversary_is_nearer_in_the_unit_interval(likelihood, n_features, radius):
    module = _module(likelihood=likelihood, input_shape=(n_features,))
    assert module.adversarial_radius == pytest.approx(radius)


def test_the_adversary_of_a_series_is_one_standard_deviation_away():
    module = _module(network="recurrent", input_shape=(20, 5), hidden_layer_sizes=(8, 5, 4))
    assert module.adversarial_radius == 1.0


def test_a_draw_without_noise_is_decoded_as_the_mean_is(x):
    module = _module()
    module.shift += 0.1
    module.scale *= 3.0
    found = module.reconstruct(x, torch.zeros(4, 2))
    np.testing.assert_allclose(found.detach(), module.reconstruct(x).detach())
    assert not torch.allclose(module.reconstruct(x, torch.ones(4, 2)), found)


def test_the_inconsistency_moves_encoder_and_heads_alone(x):
    module = _module()
    out = module(x, torch.Generator().manual_seed(0), perturb=True)
    out[3].sum().backward()
    moved = {n.split(".")[0] for n, p in module.named_parameters() if p.grad is not None}
    assert moved == {"encoder", "pi"}


def test_asking_for_the_inconsistency_changes_nothing_else(x):
    module = _module()
    plain = module(x, torch.Generator().manual_seed(0))
    with_it = module(x, torch.Generator().manual_seed(0), perturb=True)
    assert plain[3] is None
    assert torch.equal(plain[1], with_it[1])
    assert torch.equal(plain[2], with_it[2])


def test_in_bfloat16_only_the_layers_compute_and_only_in_training():
    seen = {}
    module = _module().float()
    module.precision = "bfloat16"
    parts = {"encoder": module.encoder.layers, "decoder": module.decoder.layers}
    for name, part in {**parts, "pi": module.pi["0"], "mean": module.mean}.items():
        part.register_forward_hook(
            lambda _, inputs, out, name=name: seen.update({name: out.dtype})
        )
    x = torch.rand(4, 6)
    outputs = module(x, torch.Generator().manual_seed(0), perturb=True)
    layers, heads = ("encoder", "decoder"), ("pi", "mean")
    assert {seen[name] for name in layers} == {torch.bfloat16}
    assert {seen[name] for name in heads} == {torch.float32}
    assert {value.dtype for value in (outputs[0]["0"], *outputs[1:])} == {torch.float32}
    module.eval()(x)
    assert set(seen.values()) == {torch.float32}


def test_running_averages_see_the_rows_alone_and_no_perturbed_ones():
    x = torch.rand(16, 36, generator=torch.Generator().manual_seed(0)).double()
    averages = []
    for perturb in (False, True):
        module = _module(network="conv", input_shape=(6, 6)).train()
        module(x, torch.Generator().manual_seed(0), perturb=perturb)
        averages.append({n: v for n, v in module.named_buffers() if "running" in n})
    assert averages[0]
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])
