"""Semi-supervised variational autoencoders with scikit-learn's interface."""

from ._anomaly import SSVAEAnomalyDetector
from ._classifier import SSVAEClassifier
from ._presets import paper_params

__version__ = "0.1.0"

__all__ = ["SSVAEAnomalyDetector", "SSVAEClassifier", "paper_params"]
