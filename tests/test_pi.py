import numpy as np
import torch

from sklearn_ssvae._pi import pool_over_time


def test_class_probabilities_of_a_series_are_the_geometric_mean_over_time():
    probs = np.array([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]])
    pooled = np.prod(probs[0], axis=0) ** (1 / 3)
    logits = pool_over_time(torch.from_numpy(np.log(probs) + 7.0))
    found = torch.softmax(logits, dim=1)[0].numpy()
    np.testing.assert_allclose(found, pooled / pooled.sum())


def test_a_step_that_leaves_the_class_open_does_not_change_which_is_ahead():
    decided = torch.tensor([[[2.0, 0.0, 1.0]], [[0.0, 4.0, -1.0]]])
    undecided = torch.tensor([[[9.0, 9.0, 9.0]], [[-5.0, -5.0, -5.0]]])
    found = pool_over_time(torch.cat([undecided, decided], dim=1))
    assert found.argsort(dim=1).tolist() == decided[:, 0].argsort(dim=1).tolist()


def test_a_row_without_time_steps_is_pooled_already():
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    assert pool_over_time(logits) is logits
