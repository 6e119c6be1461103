import numpy as np
import pytest
import torch
from torch import distributions

from sklearn_ssvae._likelihoods import LIKELIHOODS, MIN_VARIANCE, _log_variance


def _params_and_rows(name, generator):
    likelihood = LIKELIHOODS[name](5).double()
    params = torch.randn(7, likelihood.n_params, 5, generator=generator, dtype=torch.float64)
    if name == "bernoulli":
        x = torch.rand(7, 5, generator=generator, dtype=torch.float64)
    else:
        x = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    for parameter in likelihood.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return likelihood, params, x


def _reference(name, likelihood, params):
    if name == "bernoulli":
        return distributions.Bernoulli(logits=params[:, 0], validate_args=False)
    raw = likelihood.raw_log_var if name == "gaussian" else params[:, 1]
    variance = MIN_VARIANCE + torch.exp(raw)
    return distributions.Normal(params[:, 0], variance.sqrt())


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_prob_and_mean_are_those_of_torch_distributions(name):
    likelihood, params, x = _params_and_rows(name, torch.Generator().manual_seed(0))
    reference = _reference(name, likelihood, params)
    torch.testing.assert_close(likelihood.log_prob(params, x), reference.log_prob(x))
    torch.testing.assert_close(likelihood.mean(params), reference.mean)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_have_the_mean_and_variance_of_the_distribution(name):
    likelihood, params, _ = _params_and_rows(name, torch.Generator().manual_seed(1))
    reference = _reference(name, likelihood, params)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        draws = torch.stack([likelihood.sample(params, generator) for _ in range(4000)])
    error = (draws.mean(0) - reference.mean).abs() / (reference.stddev / 4000**0.5)
    assert error.max() < 4.5
    np.testing.assert_allclose(draws.var(0), reference.variance.detach(), rtol=0.2)


def test_the_gaussian_density_integrates_to_one():
    likelihood = LIKELIHOODS["gaussian"](1).double()
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)[:, None]
    density = likelihood.log_prob(torch.zeros(len(x), 1, 1), x).exp()
    assert torch.trapezoid(density[:, 0], x[:, 0]).item() == pytest.approx(1, abs=1e-9)


def test_the_variance_has_a_floor():
    raw = torch.tensor([-1e3, -30.0, 0.0, 3.0], dtype=torch.float64)
    expected = torch.log(MIN_VARIANCE + torch.exp(raw))
    torch.testing.assert_close(_log_variance(raw), expected)
