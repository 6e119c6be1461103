"""scikit-learn's whole check suite on both estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier

ESTIMATORS = [
    SSVAEClassifier(max_epochs=10),
    SSVAEClassifier(max_epochs=10, unlabeled=None),
    SSVAEAnomalyDetector(max_epochs=5),
]


def _expected_failures(estimator):
    if isinstance(estimator, SSVAEClassifier) and estimator.unlabeled == -1:
        return {
            "check_classifiers_classes": "trains on the labels -1 and 1, and -1 means "
            "unlabeled; scikit-learn's own semi-supervised classifiers are exempt by name"
        }
    return {}


# Small batches of unscaled rows give scikit-learn's own warnings in these checks.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=_expected_failures, xfail_strict=True
)
def test_scikit_learn_check(estimator, check):
    check(estimator)
