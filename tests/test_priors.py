"""The priors of z against torch.distributions and slow loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import distributions

from sklearn_ssvae._priors import ClassConditional, StandardNormal


@pytest.fixture
def posterior():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    log_var = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return mean, log_var


def _class_conditional(latent_dim, n_classes, seed=0):
    """Make a prior whose means and variances all differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prior = ClassConditional(latent_dim, n_classes).double()
        for log_var in prior.log_vars.values():
            torch.nn.init.normal_(log_var)
    return prior.requires_grad_(False)


def test_untrained_means_are_all_as_far_from_zero():
    prior = ClassConditional(9, {"0": 4, "1": 2})
    for means in prior.means.values():
        torch.testing.assert_close(means.norm(dim=1), torch.full((len(means),), 3.0))


def _normal(mean, log_var):
    return distributions.Normal(mean, torch.exp(0.5 * log_var))


def test_kl_divergence_is_that_of_torch_distributions(posterior):
    q = _normal(*posterior)
    expected = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(StandardNormal(3, {}).kl_divergence(*posterior), expected)


def test_kl_divergence_of_the_prior_itself_is_zero():
    zeros = torch.zeros(4, 2)
    assert StandardNormal(2, {}).kl_divergence(zeros, zeros).tolist() == [0.0] * 4


def test_under_the_normal_prior_a_style_is_z_whatever_the_class():
    style = torch.randn(4, 2, dtype=torch.float64)
    assert torch.equal(StandardNormal(2, {}).place(torch.arange(4)[:, None], style), style)


# The class-conditional prior


def _slow_kl(prior, mean, log_var, logits, codes):
    """Row by row, and one combination of the heads' classes after the other."""
    total = []
    for row in range(len(mean)):
        pis = []
        for column, (name, values) in enumerate(logits.items()):
            n = len(prior.means[name])
            pi = torch.softmax(values[row][:n], 0).tolist()
            code = -1 if codes is None else int(codes[row, column])
            pis.append([float(y == code) for y in range(n)] if 0 <= code < n else pi)
        kl = 0.0
        for ys in itertools.product(*(range(len(pi)) for pi in pis)):
            p = math.prod(pi[y] for pi, y in zip(pis, ys))
            if p:
                heads = list(zip(logits, ys))
                m = sum(prior.means[name][y] for name, y in heads)
                log_s = sum(prior.log_vars[name][y] for name, y in heads)
                q = _normal(mean[row], log_var[row])
                of_z = distributions.kl_divergence(q, _normal(m, log_s)).sum().item()
                kl += p * (of_z + math.log(p * math.prod(map(len, pis))))
        total.append(kl)
    return total


@pytest.mark.parametrize("labels", [None, [-1, 0, 2, -1, 1]])
def test_the_divergence_is_the_formula_class_by_class(posterior, labels):
    prior = _class_conditional(3, {"0": 3})
    logits = {"0": torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()}
    codes = None if labels is None else torch.tensor(labels)[:, None]
    found = prior.kl_divergence(*posterior, logits, codes)
    np.testing.assert_allclose(found, _slow_kl(prior, *posterior, logits, codes))


@pytest.mark.parametrize("labels", [None, [-1, 0, 2, -1, 1]])
def test_a_series_has_one_class_and_a_latent_vector_at_each_step(labels):
    prior = _class_conditional(3, {"0": 3})
    generator = torch.Generator().manual_seed(1)
    posterior = torch.randn(2, 5, 4, 3, generator=generator).double()
    logits = {"0": torch.randn(5, 3, generator=generator).double()}
    codes = None if labels is None else torch.tensor(labels)[:, None]
    found = prior.kl_divergence(*posterior, logits, codes)
    np.testing.assert_allclose(found, _slow_kl(prior, *posterior, logits, codes))


def test_means_and_log_variances_of_several_heads_add_up(posterior):
    prior = _class_conditional(3, {"0": 3, "1": 2})
    generator = torch.Generator().manual_seed(1)
    logits = {
        name: torch.randn(5, n, generator=generator).double()
        for name, n in [("0", 3), ("1", 2)]
    }
    codes = torch.tensor([[-1, 1], [0, -1], [2, 0], [-1, -1], [1, 1]])
    found = prior.kl_divergence(*posterior, logits, codes)
    np.testing.assert_allclose(found, _slow_kl(prior, *posterior, logits, codes))


def test_known_anomalies_are_no_components(posterior):
    """Pi is normalized over the kinds that the density is fitted to."""
    prior = _class_conditional(3, {"0": 2})
    logits = {"0": torch.tensor([[1.0, 2.0, 50.0]]).double().expand(5, 3)}
    codes = torch.tensor([[-1], [2], [0], [1], [-1]])
    found = prior.kl_divergence(*posterior, logits, codes)
    np.testing.assert_allclose(found, _slow_kl(prior, *posterior, logits, codes))


def test_a_style_is_placed_in_the_distribution_of_the_class():
    prior = _class_conditional(2, {"0": 3, "1": 2})
    codes = torch.tensor([[2, 0], [1, 1], [2, 0]])
    style = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = prior.place(codes, style)
    for row, (a, b) in enumerate(codes.tolist()):
        mean = prior.means["0"][a] + prior.means["1"][b]
        scale = torch.exp(0.5 * (prior.log_vars["0"][a] + prior.log_vars["1"][b]))
        torch.testing.assert_close(z[row], mean + scale * style[row])
    steps = prior.place(codes, style[:, None].expand(3, 4, 2))
    torch.testing.assert_close(steps, z[:, None].expand(3, 4, 2))


# Within the estimators


@pytest.fixture
def fitted(blobs, make_classifier):
    X, _, y = blobs
    return make_classifier(prior="class_conditional", max_epochs=60, learning_rate=0.01).fit(
        X, y
    )


def test_a_class_conditional_classifier_learns_and_generates_its_classes(blobs, fitted):
    X, y, _ = blobs
    assert fitted.score(X, y) > 0.95
    X_new, y_new = fitted.sample(600, random_state=0)
    assert (fitted.predict(X_new) == y_new).mean() > 0.9
    assert fitted.sample(3, y=[2, 0, 1])[1].tolist() == [2, 0, 1]
    assert fitted.inverse_transform(fitted.transform(X)).shape == X.shape


def test_means_and_scales_of_the_classes_are_exposed(blobs, fitted, make_classifier):
    X, y, _ = blobs
    assert fitted.class_means_.shape == fitted.class_scales_.shape == (3, 2)
    assert (fitted.class_scales_ > 0).all()
    Z = fitted.transform(X)
    nearest = np.linalg.norm(Z[:, None] - fitted.class_means_, axis=2).argmin(1)
    assert (nearest == y).mean() > 0.9
    with pytest.raises(AttributeError, match="class_conditional"):
        _ = make_classifier(prior="normal").fit(X, y).class_means_


def test_the_score_is_a_bound_on_the_probability_of_a_row(make_classifier):
    """Against the probability by a sum over a fine grid of z, class by class."""
    rng = np.random.RandomState(0)
    y = np.arange(200) % 2
    X = rng.normal(size=(200, 2)) * [1.0, 0.3] + y[:, None]
    params = {"prior": "class_conditional", "latent_dim": 1, "device": "cpu"}
    clf = make_classifier(max_epochs=30, **params).fit(X, y)
    grid = np.linspace(-12, 12, 4001)
    module = clf.net_.inference_module
    log_p = []
    with torch.no_grad():
        z = torch.from_numpy(grid)[:, None]
        params = module.decode(None, z)
        weights = sum(
            0.5 * np.exp(-0.5 * ((grid - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))
            for m, s in zip(clf.class_means_[:, 0], clf.class_scales_[:, 0])
        )
        for row in X[:40]:
            x = module.standardize(torch.from_numpy(row)[None])
            of_z = module.likelihood.log_prob(params, x).sum(1).numpy()
            density = np.sum(np.exp(of_z) * weights) * (grid[1] - grid[0])
            log_p.append(np.log(density) - np.log(module.scale.numpy()).sum())
    gap = np.array(log_p) - clf.score_samples(X[:40])
    # The bound is an average over draws: single rows may lie a little above.
    assert gap.min() > -0.15
    assert gap.mean() > 0
    assert gap.mean() < 1.0


def test_the_score_needs_no_company(blobs, fitted):
    X = blobs[0]
    some = fitted.score_samples(X)[[5, 3, 200]]
    np.testing.assert_allclose(fitted.score_samples(X[[5, 3, 200]]), some, rtol=1e-9)


def test_labels_that_come_later_keep_the_classes_that_are_known(blobs, make_classifier):
    X, _, y = blobs
    clf = make_classifier(warm_start=True, prior="class_conditional")
    clf.fit(X, np.where(y == 2, -1, y))
    before, decoded = clf.class_means_.copy(), clf.reconstruct(X)
    clf.set_params(learning_rate=1e-30, max_epochs=1).fit(X, y)
    assert clf.class_means_.shape == (3, 2)
    np.testing.assert_allclose(clf.class_means_[:2], before)
    np.testing.assert_allclose(clf.reconstruct(X), decoded)


def test_a_classifier_starts_from_a_detector_without_classes(
    blobs, make_detector, make_classifier
):
    X, _, y = blobs
    det = make_detector(prior="class_conditional").fit(X)
    still = {"learning_rate": 1e-30, "max_epochs": 1, "prior": "class_conditional"}
    clf = make_classifier(**still).fit(X, y, init_model=det)
    np.testing.assert_allclose(clf.reconstruct(X), det.reconstruct(X))


def test_it_works_with_several_factors_and_a_series(make_classifier):
    rng = np.random.RandomState(0)
    y = np.column_stack([rng.randint(2, size=80), rng.randint(3, size=80)])
    X = rng.normal(size=(80, 6, 2)) + y[:, None, :]
    clf = make_classifier(
        network="recurrent",
        hidden_layer_sizes=(8, 8, 8),
        prior="class_conditional",
        max_epochs=2,
    ).fit(X, y)
    assert [means.shape for means in clf.class_means_] == [(2, 2), (3, 2)]
    X_new, y_new = clf.sample(4, y=[1, 2], random_state=0)
    assert X_new.shape == (4, 6, 2)
    assert y_new.tolist() == [[1, 2]] * 4
    assert np.isfinite(clf.score_samples(X)).all()


def test_without_labels_the_prior_is_a_mixture_that_finds_clusters(make_detector):
    rng = np.random.RandomState(0)
    y = rng.randint(3, size=400)
    X = rng.normal(size=(400, 4)) + 8 * np.eye(4)[y]
    params = {"prior": "class_conditional", "n_classes": 3, "learning_rate": 0.01}
    det = make_detector(max_epochs=60, device="cpu", **params).fit(X)
    assert det.class_means_.shape == (3, 2)
    module = det.net_.inference_module
    with torch.no_grad():
        logits, _, _ = module.encode(module.standardize(torch.from_numpy(X)))
    component = logits["mixture"].argmax(dim=1).numpy()
    in_common = np.histogram2d(y, component, bins=3)[0]
    assert in_common.max(axis=1).sum() > 0.95 * len(X)
    X_new, y_new = det.sample(5, y=[0, 1, 2, 2, 1], random_state=0)
    assert X_new.shape == (5, 4)
    assert y_new.tolist() == [0, 1, 2, 2, 1]
