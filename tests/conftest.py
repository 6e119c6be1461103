"""Small data whose answers are known, and estimators that train in a moment."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small products gain nothing from threads, and runners share their cores."""
    torch.set_num_threads(1)


@pytest.fixture
def blobs():
    """Three clusters in five columns of different units; ten labels of each."""
    X, y = make_blobs(300, n_features=5, centers=3, cluster_std=1.5, random_state=0)
    X = X * [1.0, 10.0, 0.1, 1.0, 3.0] + [0.0, 100.0, 0.0, -5.0, 0.0]
    y_partly = np.full(300, -1)
    for label in range(3):
        rows = np.flatnonzero(y == label)[:10]
        y_partly[rows] = label
    return X, y, y_partly


@pytest.fixture
def expected_variance():
    """Compute the mean squared error of many decoded draws for some rows.

    The variance of the training, which a warm start has kept, counts for ten rows.
    """

    def compute(estimator, X):
        module = estimator.net_.inference_module
        rows = torch.from_numpy(X)
        standardized = module.standardize(rows)
        generator = torch.Generator().manual_seed(1)
        draws = torch.randn(400, 1, *module.latent_shape, generator=generator).double()
        decoded = [module.reconstruct(rows, z.expand(len(X), -1)) for z in draws]
        error = torch.stack(
            [(standardized - module.standardize(drawn)) ** 2 for drawn in decoded]
        ).mean(dim=(0, 1))
        raw = estimator.net_.training_state()["unaveraged"]["likelihood.raw_log_var"]
        before = torch.exp(raw.double()) + 1e-4
        return (len(X) * error + 10 * before) / (len(X) + 10)

    return compute


def _maker(estimator_class):
    """Make estimators that train in a moment."""

    def make(**params):
        quick = {
            "hidden_layer_sizes": (16,),
            "latent_dim": 2,
            "max_epochs": 5,
            "batch_size": 64,
            "random_state": 0,
        }
        return estimator_class(**{**quick, **params})

    return make


@pytest.fixture
def make_classifier():
    return _maker(SSVAEClassifier)


@pytest.fixture
def make_detector():
    return _maker(SSVAEAnomalyDetector)
