import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from sklearn_ssvae._loss import SSVAELoss, imbalance, masked_cross_entropy


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator)
    log_prob = -torch.rand(6, 4, generator=generator)
    kl = torch.rand(6, generator=generator)
    codes = torch.tensor([[0], [-1], [2], [-1], [1], [2]])
    return {"0": logits}, log_prob, kl, codes


def test_cross_entropy_is_a_mean_over_labeled_rows_alone(outputs):
    logits, _, _, codes = outputs
    expected = np.mean(
        [
            -torch.log_softmax(row, 0)[code].item()
            for row, code in zip(logits["0"], codes[:, 0].tolist())
            if code >= 0
        ]
    )
    found = masked_cross_entropy(logits["0"], codes[:, 0]).item()
    assert found == pytest.approx(expected)


def test_cross_entropy_without_labels_is_zero_with_zero_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.full((4,), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (3, 0.25), (0.5, 4), (1, 0)])
def test_the_loss_is_the_formula_row_by_row(outputs, alpha, beta):
    logits, log_prob, kl, codes = outputs
    elbo = np.mean([p.sum().item() - beta * d.item() for p, d in zip(log_prob, kl)])
    expected = -elbo / 4 + alpha * masked_cross_entropy(logits["0"], codes[:, 0]).item()
    terms = SSVAELoss(alpha, beta).terms(logits, log_prob, kl, None, codes)
    assert terms["loss"].item() == pytest.approx(expected)
    assert terms["log_prob"].item() == pytest.approx(log_prob.sum(1).mean().item())
    assert terms["kl_divergence"].item() == pytest.approx(kl.mean().item())
    assert SSVAELoss(alpha, beta)(logits, log_prob, kl, None, codes) == terms["loss"]
    of_half = SSVAELoss(alpha, beta / 2).terms(logits, log_prob, kl, None, codes)
    assert of_half == SSVAELoss(alpha, beta).terms(logits, log_prob, kl, None, codes, 0.5)


def test_known_anomalies_stay_out_of_the_density(outputs):
    logits, log_prob, kl, codes = outputs
    terms = SSVAELoss(1, 1, n_density_classes=(2,)).terms(logits, log_prob, kl, None, codes)
    normal = codes[:, 0] < 2
    expected = log_prob[normal].sum(1).mean().item()
    assert terms["log_prob"].item() == pytest.approx(expected)
    assert terms["cross_entropy"] == masked_cross_entropy(logits["0"], codes[:, 0])


def test_several_heads_count_equally(outputs):
    logits, log_prob, kl, codes = outputs
    other = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    other_codes = torch.tensor([-1, -1, -1, 0, 1, -1])
    terms = SSVAELoss(1, 1).terms(
        {**logits, "1": other}, log_prob, kl, None, torch.column_stack([codes, other_codes])
    )
    expected = (
        masked_cross_entropy(logits["0"], codes[:, 0])
        + masked_cross_entropy(other, other_codes)
    ) / 2
    assert terms["cross_entropy"].item() == pytest.approx(expected.item())


def test_a_row_is_an_anomaly_if_any_head_says_so(outputs):
    logits, log_prob, kl, codes = outputs
    verdicts = torch.tensor([-1, 2, -1, 1, -1, -1])
    heads = {**logits, "feedback": torch.zeros(6, 3)}
    terms = SSVAELoss(1, 1, n_density_classes=(2, 2)).terms(
        heads, log_prob, kl, None, torch.column_stack([codes, verdicts])
    )
    normal = [0, 3, 4]
    assert terms["log_prob"].item() == pytest.approx(log_prob[normal].sum(1).mean().item())


def test_a_batch_of_anomalies_alone_has_a_finite_loss(outputs):
    logits, log_prob, kl, _ = outputs
    codes = torch.full((6, 1), 2)
    terms = SSVAELoss(1, 1, n_density_classes=(2,)).terms(logits, log_prob, kl, None, codes)
    assert terms["log_prob"].item() == 0
    assert torch.isfinite(terms["loss"])


def test_without_a_decoder_the_loss_is_the_cross_entropy(outputs):
    logits, _, _, codes = outputs
    terms = SSVAELoss(math.inf, 1).terms(logits, None, None, None, codes)
    assert set(terms) == {"loss", "cross_entropy"}
    assert terms["loss"] == terms["cross_entropy"]


def test_without_a_pi_head_the_loss_is_the_elbo(outputs):
    _, log_prob, kl, codes = outputs
    terms = SSVAELoss(0, 1).terms({}, log_prob, kl, None, codes)
    assert set(terms) == {"loss", "log_prob", "kl_divergence"}
    assert terms["loss"].item() == pytest.approx(
        -(terms["log_prob"] - terms["kl_divergence"]).item() / 4
    )


@pytest.mark.parametrize(
    ("n_unlabeled", "weight"), [(math.inf, 16 / 25), (40, 16 / 25), (20, 4 / 13)]
)
def test_imbalance_is_the_divergence_of_the_mean_pi_with_rows_of_the_nearest_shares(
    outputs, n_unlabeled, weight
):
    """Against torch.distributions: two unlabeled rows, that of 20 in all count as one."""
    logits, _, _, codes = outputs
    shares = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]])
    rows = [torch.softmax(logits["0"][row], 0) for row in (1, 3)]
    divergences = []
    for of_classes in shares:
        mean = (1 - weight) * of_classes + weight * (rows[0] + rows[1]) / 2
        divergences.append(kl_divergence(Categorical(mean), Categorical(of_classes)).item())
        found = imbalance(logits["0"], codes[:, 0], of_classes[None], n_unlabeled)
        assert found.item() == pytest.approx(divergences[-1], rel=1e-4)
    found = imbalance(logits["0"], codes[:, 0], shares, n_unlabeled)
    assert found.item() == pytest.approx(min(divergences), rel=1e-4)


def test_shares_that_the_classes_may_have_pull_nowhere():
    shares = torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.4, 0.6]], dtype=torch.float64)
    codes = torch.full((60,), -1)
    for of_classes in shares:
        logits = of_classes.log().repeat(60, 1).requires_grad_()
        value = imbalance(logits, codes, shares)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-7)
        assert logits.grad.abs().max() < 1e-7
    logits = torch.tensor([0.8, 0.2]).double().log().repeat(60, 1).requires_grad_()
    imbalance(logits, codes, shares).backward()
    assert (logits.grad[:, 0] > 0).all()


def test_imbalance_of_labeled_rows_alone_is_zero(outputs):
    logits = outputs[0]["0"].requires_grad_()
    value = imbalance(logits, torch.zeros(6, dtype=torch.int64), torch.full((2, 3), 1 / 3))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-7)
    assert torch.equal(logits.grad, torch.zeros(6, 3))


def test_consistency_weighs_inconsistency_and_imbalance_per_feature(outputs):
    logits, log_prob, kl, codes = outputs
    inconsistency = torch.arange(6.0)
    shares = np.array([[0.2, 0.3, 0.5]])
    plain = SSVAELoss(1, 1).terms(logits, log_prob, kl, None, codes)
    terms = SSVAELoss(1, 1, consistency=0.1, class_shares={"0": shares}).terms(
        logits, log_prob, kl, inconsistency, codes
    )
    assert terms["inconsistency"].item() == 2.5
    expected = imbalance(logits["0"], codes[:, 0], torch.as_tensor(shares))
    assert terms["imbalance"].item() == pytest.approx(expected.item())
    assert (terms["loss"] - plain["loss"]).item() == pytest.approx(
        0.1 * (2.5 + 3 * expected.item()) / 4, rel=1e-5
    )
