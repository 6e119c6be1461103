"""Bad input gets a sentence that says what was wrong and what to do, before training."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import NotFittedError

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier

X = np.random.RandomState(0).normal(size=(40, 3))
Y = np.tile([0, 1, -1, -1], 10)


@pytest.fixture(autouse=True)
def _no_training(monkeypatch):
    def train(self, *args, **kwargs):
        pytest.fail("training started")

    monkeypatch.setattr("sklearn_ssvae._net.SSVAENet.partial_fit", train)


@pytest.fixture(params=[SSVAEClassifier, SSVAEAnomalyDetector])
def estimator(request):
    return request.param()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(40, -1), "y has no labeled row: all 40 values .* -1"),
        (np.where(Y == 1, -1, Y), r"only one class, \[0\], beside the marker -1 .* another"),
        (None, "requires y to be passed, but the target y is None"),
        (Y[:30], "inconsistent numbers of samples"),
        (np.random.RandomState(0).normal(size=40), "Unknown label type: continuous"),
        (np.where(Y < 0, np.nan, Y), "missing values .* Pass unlabeled=None"),
    ],
)
def test_labels_that_a_classifier_cannot_learn_from(y, message):
    with pytest.raises(ValueError, match=message):
        SSVAEClassifier().fit(X, y)


@pytest.mark.parametrize(
    "class_prior",
    [[1.0], [0.5, 0.2, 0.3], [0.5, 0.6], [1.0, 0.0], [[0.5, 0.5]], {0: 0.5, 1: 0.5}],
)
def test_shares_that_do_not_fit_the_classes(class_prior):
    with pytest.raises(ValueError, match="a positive share for each class, with sum 1"):
        SSVAEClassifier(class_prior=class_prior).fit(X, Y)


def test_the_message_on_one_class_names_the_detector():
    with pytest.raises(ValueError, match="SSVAEAnomalyDetector"):
        SSVAEClassifier().fit(X, np.where(Y == 1, -1, Y))


@pytest.mark.parametrize("dtype", [int, float, object, str, "Int64", "category"])
def test_verdicts_given_to_the_detector_as_kinds(dtype):
    y = pd.Series(np.where(Y == 0, -1, 1)).astype(dtype)
    with pytest.raises(ValueError, match=r"verdicts .* anomaly_labels=\[-1\]"):
        SSVAEAnomalyDetector().fit(X, y)


def test_anomalies_alone_leave_nothing_to_fit():
    with pytest.raises(ValueError, match="Every row is an anomaly by its label"):
        SSVAEAnomalyDetector(anomaly_labels=["bad"]).fit(X, np.full(40, "bad"))


@pytest.mark.parametrize(
    ("anomaly_labels", "message"),
    [
        (-1, "marker of unlabeled rows"),
        ([1, -1], "marker of unlabeled rows"),
        ([[1]], "flat list of labels"),
        ([(1, 2)], "flat list of labels"),
    ],
)
def test_anomaly_labels_that_are_none(anomaly_labels, message):
    with pytest.raises(ValueError, match=message):
        SSVAEAnomalyDetector(anomaly_labels=anomaly_labels).fit(X, Y)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_values(estimator, value):
    bad = X.copy()
    bad[3, 1] = value
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        estimator.fit(bad, Y)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (scipy.sparse.csr_array(X), TypeError, "dense data is required"),
        (X + 1j, ValueError, "Complex data not supported"),
        (np.full((40, 3), "a"), ValueError, "X holds text .* OneHotEncoder"),
        (
            pd.DataFrame({"ok": X[:, 0], "text": ["red"] * 40}),
            ValueError,
            "X holds text .*'red'.* OneHotEncoder",
        ),
        (np.empty((0, 3)), ValueError, r"0 sample\(s\)"),
        (np.empty((40, 0)), ValueError, r"0 feature\(s\)"),
        (X[:1], ValueError, r"1 sample\(s\)"),
        (X[:, 0], ValueError, "Expected 2D array, got 1D"),
    ],
)
def test_rows_of_the_wrong_kind(estimator, bad, error, message):
    with pytest.raises(error, match=message):
        estimator.fit(bad, Y[: bad.shape[0]])


def test_numbers_whose_variance_overflows(estimator):
    with pytest.raises(ValueError, match="so large that their variance overflows"):
        estimator.fit(X * 1e200, Y)


def test_values_outside_the_unit_interval_under_bernoulli(estimator):
    estimator.set_params(likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"outside \[0, 1\].*MinMaxScaler"):
        estimator.fit(X, Y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"network": "dens"}, "'network' parameter .* 'dens'"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes .* at least one width"),
        ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes .* positive integer"),
        ({"hidden_layer_sizes": (8, 2.5)}, "hidden_layer_sizes .* positive integer"),
        ({"hidden_layer_sizes": "wide"}, "'hidden_layer_sizes' parameter"),
        ({"latent_dim": 0}, "'latent_dim' parameter .* 0"),
        ({"latent_dim": 2.0}, "'latent_dim' parameter .* 2.0"),
        ({"input_shape": (2, 2)}, "means 4 values a row, but X has 3"),
        ({"input_shape": (-1, -3)}, "input_shape must hold positive integers"),
        ({"input_shape": (3.0, 1.0)}, "input_shape must hold positive integers"),
        ({"likelihood": "normal"}, "'likelihood' parameter"),
        ({"alpha": -1}, "'alpha' parameter .* -1"),
        ({"alpha": np.nan}, "'alpha' parameter .* nan"),
        ({"beta": -0.5}, "'beta' parameter"),
        ({"labeled_fraction": 1.0}, "'labeled_fraction' parameter"),
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"batch_size": "all"}, "'batch_size' parameter"),
        ({"learning_rate": 0}, "'learning_rate' parameter"),
        ({"optimizer": "adamm"}, "'optimizer' parameter"),
        ({"optimizer": dict}, "subclass of torch.optim.Optimizer"),
        ({"early_stopping": "yes"}, "'early_stopping' parameter"),
        ({"validation_fraction": 0}, "'validation_fraction' parameter"),
        ({"n_iter_no_change": 0}, "'n_iter_no_change' parameter"),
        ({"warm_start": "no"}, "'warm_start' parameter"),
        ({"device": 3}, "'device' parameter"),
        ({"callbacks": 5}, "'callbacks' parameter"),
        ({"net_params": 5}, "'net_params' parameter"),
        ({"net_params": {"optimiser__lr": 1}}, "optimiser__lr"),
        ({"random_state": "seed"}, "'random_state' parameter"),
        ({"verbose": -1}, "'verbose' parameter"),
    ],
)
def test_parameters_of_the_wrong_type_or_range(estimator, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.set_params(**params).fit(X, Y)


@pytest.mark.parametrize("alpha", [0, -np.inf])
def test_a_classifier_without_its_head(alpha):
    with pytest.raises(ValueError, match="'alpha' parameter"):
        SSVAEClassifier(alpha=alpha).fit(X, Y)


def test_a_detector_without_its_decoder():
    with pytest.raises(ValueError, match="'alpha' parameter"):
        SSVAEAnomalyDetector(alpha=np.inf).fit(X)


@pytest.mark.parametrize("contamination", [0, 0.6, "automatic", None])
def test_contamination_out_of_range(contamination):
    with pytest.raises(ValueError, match="'contamination' parameter"):
        SSVAEAnomalyDetector(contamination=contamination).fit(X)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "not a device that torch knows"),
        ("cuda:63", 'not present.* device="auto"'),
    ],
)
def test_a_missing_device(estimator, device, message):
    with pytest.raises(ValueError, match=message):
        estimator.set_params(device=device).fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu(estimator):
    with pytest.raises(ValueError, match=r"torch sees 0 CUDA device\(s\)"):
        estimator.set_params(device="cuda").fit(X, Y)


def test_too_few_labels_to_hold_any_out():
    y = np.r_[0, 1, 2, np.full(37, -1)]
    with pytest.raises(ValueError, match="early_stopping=True holds out"):
        SSVAEClassifier(early_stopping=True).fit(X, y)


def test_the_first_chunk_without_classes():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        SSVAEClassifier().partial_fit(X, Y)


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [
        (Y, [[0, 1], [0, 1, 2]], "one column of labels, so classes must be a flat list"),
        (
            np.column_stack([Y, Y]),
            [0, 1],
            "2 columns of labels, so classes must be a list with",
        ),
        (np.column_stack([Y, Y]), [[0, 1]], "2 columns of labels, so classes must be a list"),
    ],
)
def test_classes_nested_otherwise_than_the_columns_of_labels(y, classes, message):
    with pytest.raises(ValueError, match=message):
        SSVAEClassifier().partial_fit(X, y, classes=classes)


def test_a_first_chunk_with_a_label_beyond_the_classes():
    with pytest.raises(ValueError, match="not among the known classes"):
        SSVAEClassifier().partial_fit(X, Y, classes=[1, 2])


def test_init_model_of_another_kind(estimator):
    with pytest.raises(TypeError, match="init_model must be a fitted"):
        estimator.fit(X, Y, init_model=object())


def test_init_model_that_is_not_fitted(estimator):
    with pytest.raises(NotFittedError):
        estimator.fit(X, Y, init_model=SSVAEClassifier())


@pytest.mark.parametrize(
    "method",
    ["predict", "transform", "reconstruct", "score_samples", "inverse_transform"],
)
def test_use_before_fit(method):
    with pytest.raises(NotFittedError):
        getattr(SSVAEClassifier(), method)(X)


def test_sampling_before_fit(estimator):
    with pytest.raises(NotFittedError):
        estimator.sample()
