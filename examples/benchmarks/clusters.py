"""What labels say of clusters, and what the classifier gains by listening.

    python examples/benchmarks/clusters.py --data FOLDER
    python examples/benchmarks/clusters.py --tasks sslbook/BCI@100 along:100@200 --seeds 10

A task is a set and its number of labels. Besides the sets of ``datasets.py``: "across:D" has
classes on two sides of a plane through D columns of normal noise, "along:D" on two sides of
a plane across the columns that vary least, "made:D:C" is scikit-learn's
``make_classification`` with D columns and C clusters a class. Prints how often the classifier
takes classes for clusters by default, and the accuracy on held-out rows with either choice.
"""

import numpy as np
from datasets import add_data_argument, argument_parser, hide_labels, load_split
from joblib import Parallel, delayed
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split

from sklearn_ssvae import SSVAEClassifier

TASKS = [
    *("sslbook/BCI@100", "sslbook/g241c@100", "digits@50", "across:30@50", "across:100@200"),
    *("along:20@50", "along:100@200", "made:20:1@50", "made:20:4@100"),
    *("adbench/20_letter@150", "adbench/6_cardio@100"),
]
CLUSTERS = {"prior": "class_conditional", "consistency": 8.0}
NO_CLUSTERS = {"prior": "normal", "consistency": 0.0}


def make_rows(name, seed):
    """Make 500 rows to train on and 500 to test, as X_train, X_test, y_train, y_test."""
    kind, n_features, *n_clusters = name.split(":")
    n_features = int(n_features)
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(1000, n_features))
    if kind == "across":
        y = (X @ rng.normal(size=n_features) > 0).astype(int)
    elif kind == "along":
        X *= np.linspace(2, 0.3, n_features)
        y = (X[:, -3:].sum(axis=1) + 0.1 * rng.normal(size=1000) > 0).astype(int)
    else:
        X, y = make_classification(
            n_samples=1000,
            n_features=n_features,
            n_informative=max(2, n_features // 5),
            n_redundant=n_features // 5,
            n_clusters_per_class=int(n_clusters[0]),
            random_state=seed,
        )
    return train_test_split(X, y, test_size=0.5, random_state=seed)


def compare(task, folder, seed):
    """Return whether "auto" takes the classes for clusters, and the accuracy either way."""
    name, n_labeled = task.split("@")
    split = make_rows(name, seed) if ":" in name else load_split(name, folder, 1500, seed)
    X, X_test, y, y_test = split
    y = hide_labels(y, int(n_labeled), seed)
    auto = SSVAEClassifier(max_epochs=1, random_state=0).fit(X, y)
    return [
        float(auto.consistency_ > 0),
        *(
            SSVAEClassifier(random_state=0, **params).fit(X, y).score(X_test, y_test)
            for params in (CLUSTERS, NO_CLUSTERS)
        ),
    ]


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()

    print("| set and labels | share taken for clusters | accuracy as clusters | as none |")
    print("|---|---|---|---|")
    for task in args.tasks:
        runs = Parallel(args.jobs)(
            delayed(compare)(task, args.data, 20 + seed) for seed in range(args.seeds)
        )
        share, clusters, none = np.mean(runs, axis=0)
        print(f"| {task} | {share:.1f} | {clusters:.3f} | {none:.3f} |", flush=True)


if __name__ == "__main__":
    main()
