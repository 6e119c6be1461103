r"""Compare settings of the estimators over development sets: how the defaults were chosen.

    python examples/benchmarks/defaults.py classifier --data FOLDER \
        "" "alpha=1" "alpha=inf" "hidden_layer_sizes=(128, 128)"
    python examples/benchmarks/defaults.py detector --data FOLDER "" "latent_dim=2"

Each argument is one setting, a list of parameters that differ from the defaults; "" is the
defaults themselves, LR the rival LogisticRegression on the labeled rows (as they come, and
scaled). The classifier's figures are accuracy and log loss on held-out rows with few labels,
the detector's is the AUC of a model that was fitted to half of the normal rows, on all
others.
"""

import time

import numpy as np
from datasets import (
    N_LABELED,
    add_data_argument,
    argument_parser,
    hide_labels,
    load_anomaly_split,
    load_split,
    parse_params,
)
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier

SETS = {
    "classifier": [
        "digits",
        "breast_cancer",
        "wine",
        "iris",
        "sslbook/g241c",
        "sslbook/Digit1",
        "mnist",
    ],
    "detector": [
        "adbench/18_Ionosphere",
        "adbench/23_mammography",
        "adbench/28_pendigits",
        "adbench/30_satellite",
        "adbench/38_thyroid",
        "adbench/40_vowels",
        "adbench/6_cardio",
        "adbench/4_breastw",
    ],
}

RIVALS = {
    "LR": LogisticRegression(max_iter=5000),
    "LR scaled": make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
}


def run_classifier(name, setting, args, seed):
    """Fit with few labels; return accuracy and log loss on held-out rows."""
    X_train, X_test, y_train, y_test = load_split(name, args.data, args.rows, seed)
    per_class = args.labels and args.labels * len(np.unique(y_train))
    y = hide_labels(y_train, per_class or N_LABELED[name], seed)
    if setting in RIVALS:
        labeled = y >= 0
        X_train, X_test = (X.reshape(len(X), -1) for X in (X_train, X_test))
        clf = RIVALS[setting].fit(X_train[labeled], y[labeled])
    else:
        clf = SSVAEClassifier(random_state=seed, **parse_params(setting)).fit(X_train, y)
    proba = clf.predict_proba(X_test)
    return clf.score(X_test, y_test), log_loss(y_test, proba, labels=clf.classes_)


def run_detector(name, setting, args, seed):
    """Fit to half of the normal rows; return the AUC on the others and the anomalies."""
    X, X_test, is_anomaly = load_anomaly_split(name, args.data, args.rows, seed)
    det = SSVAEAnomalyDetector(random_state=seed, **parse_params(setting)).fit(X)
    return (roc_auc_score(is_anomaly, -det.score_samples(X_test)),)


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("task", choices=SETS)
    parser.add_argument("settings", nargs="+")
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--sets", nargs="+", help="(default: all of the task)")
    parser.add_argument("--rows", type=int, default=3000, help="at most, of each set")
    parser.add_argument("--labels", type=int, metavar="N", help="labels a class")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_intermixed_args()

    sets = args.sets or SETS[args.task]
    run = run_classifier if args.task == "classifier" else run_detector
    width = max(12, *map(len, args.settings))
    names = [name.split("/")[-1].split("_", 1)[-1][:9] for name in sets]
    print(f"{'':{width}}", *(f"{name:>11}" for name in names), "       mean  seconds")
    with Parallel(args.jobs) as parallel:
        for setting in args.settings:
            start = time.perf_counter()
            values = parallel(
                delayed(run)(name, setting, args, seed)
                for name in sets
                for seed in range(args.seeds)
            )
            means = np.reshape(values, (len(sets), args.seeds, -1)).mean(axis=1)
            texts = [
                "/".join(f"{value:.3f}" for value in of_set)
                for of_set in [*means, means.mean(axis=0)]
            ]
            print(
                f"{setting or '(defaults)':{width}}",
                *(f"{text:>11}" for text in texts),
                f"{time.perf_counter() - start:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
