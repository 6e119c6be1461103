"""Small data whose answers are known, and estimators that train in a moment."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small products gain nothing from threads, and runners share their cores."""
    torch.set_num_threads(1)
