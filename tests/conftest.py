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
