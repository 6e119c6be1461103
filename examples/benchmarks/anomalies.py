r"""The detector's scores beside rivals', on tables and on images with a class left out.

    python examples/benchmarks/anomalies.py --data FOLDER
    python examples/benchmarks/anomalies.py --sets keel_rare --limit 3000 --train all
    python examples/benchmarks/anomalies.py --data FOLDER --sets mnist --labels 0 0.01 1 \
        --scores surprise log_prob --limit 10000 --params "max_epochs=15"

A table's models are fitted to half of its normal rows and tested on all others; with
``--train all`` they are fitted to all rows, anomalies among them, and tested on these;
"surprise, y=0" is told that all rows it is fitted to are normal. In
KEEL's tables the rarest class is the anomaly. Of images each class in turn is: models are
fitted to the other classes of the training part, with the share of labels that ``--labels``
names, and tested on the test part. Rivals use no labels, and see tables standardised, or
divided by one number where columns have a unit in common, as ours do inside; those of PyOD
are run where it is installed (``pip install pyod``). A finished line of the results file is
not run again.

``--part development`` is for choosing between scores: images are tested on training rows
that ``--limit`` leaves over, and tables are those on which the defaults were chosen; the
others are the sets of ``--part test``.
"""

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
from datasets import (
    GROUPS,
    add_data_argument,
    argument_parser,
    data_file,
    hide_labels,
    load_anomaly_split,
    parse_params,
    scale_columns,
)
from defaults import SETS
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from sklearn_ssvae import SSVAEAnomalyDetector

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "paper"))

from common import run_cells

TABLES = {
    "development": SETS["detector"],
    "test": [
        "adbench/14_glass",
        "adbench/19_landsat",
        "adbench/20_letter",
        "adbench/25_musk",
        "adbench/27_PageBlocks",
        "adbench/31_satimage-2",
        "adbench/32_shuttle",
        "adbench/35_SpamBase",
        "adbench/43_WDBC",
        "adbench/45_wine",
    ],
}
IMAGES = ("mnist", "fashion_mnist")

# The default score with a y that has one kind for all training rows.
KNOWN_TO_BE_NORMAL = "surprise, y=0"
METRICS = ["auc", "average_precision"]


def neighbors(X, X_test, metric="euclidean"):
    """Mean distance to the five nearest training rows."""
    index = NearestNeighbors(n_neighbors=5, metric=metric).fit(X)
    return -index.kneighbors(X_test)[0].mean(axis=1)


def pca_error(X, X_test):
    """Squared error of as many principal components as hold 90 % of the variance."""
    pca = PCA(0.9, svd_solver="full").fit(X)
    return -((X_test - pca.inverse_transform(pca.transform(X_test))) ** 2).sum(axis=1)


def by_estimator(make):
    """Turn an outlier detector of scikit-learn into a function of training and test rows."""
    return lambda X, X_test: make().fit(X).score_samples(X_test)


def by_pyod(module, name, **params):
    """Turn a detector of PyOD, whose scores rise with abnormality, into such a function."""

    def scores(X, X_test):
        make = getattr(importlib.import_module(f"pyod.models.{module}"), name)
        return -make(**params).fit(X).decision_function(X_test)

    return scores


RIVALS = {
    "kNN": neighbors,
    "cosine": lambda X, X_test: neighbors(X, X_test, "cosine"),
    "IsolationForest": by_estimator(lambda: IsolationForest(random_state=0)),
    "LOF": by_estimator(lambda: LocalOutlierFactor(novelty=True)),
    "OneClassSVM": by_estimator(OneClassSVM),
    "PCA": pca_error,
    "EllipticEnvelope": by_estimator(lambda: EllipticEnvelope(random_state=0)),
    "PyOD ECOD": by_pyod("ecod", "ECOD"),
    "PyOD AutoEncoder": by_pyod("auto_encoder", "AutoEncoder", random_state=0, verbose=0),
    "PyOD VAE": by_pyod("vae", "VAE", random_state=0, verbose=0),
}
FOR_IMAGES = ("kNN", "cosine")


def load_images(name, folder, anomaly, limit, part, seed):
    """Return rows and labels without a class, and test rows that hold the class."""
    with np.load(data_file(folder, name)) as arrays:
        X, y = arrays["X_train"] / np.float32(255), arrays["y_train"].astype(int)
        rows = np.random.RandomState(seed).permutation(len(X))
        rows, odd = rows[y[rows] != anomaly], rows[y[rows] == anomaly]
        train = rows[:limit]
        if part == "test":
            X_test, y_test = arrays["X_test"] / np.float32(255), arrays["y_test"]
        else:
            test = np.r_[rows[len(train) :][:2000], odd[:1000]]
            X_test, y_test = X[test], y[test]
    return X[train], y[train], X_test, y_test == anomaly


def run_cell(cell, args):
    """Fit one model; return the metrics of its score."""
    name, seed, settings = cell["set"], cell["seed"], dict(cell["settings"])
    limit, train = settings.pop("limit"), settings.pop("train", "normal")
    if name in IMAGES:
        X, y, X_test, is_anomaly = load_images(
            name, args.data, cell["anomaly"], limit, args.part, seed
        )
    else:
        X, X_test, is_anomaly = load_anomaly_split(name, args.data, limit, seed, train)
        y = None
    if cell["method"] in RIVALS:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
        if name not in IMAGES:
            X, X_test = scale_columns(X, X_test)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*covariance matrix.*")
            scores = RIVALS[cell["method"]](X, X_test)
    else:
        score = cell["method"]
        if cell["labels"] and y is not None:
            y = hide_labels(y, round(cell["labels"] * len(y)), seed)
        else:
            y = np.zeros(len(X)) if score == KNOWN_TO_BE_NORMAL else None
        if score == KNOWN_TO_BE_NORMAL:
            score = "surprise"
        det = SSVAEAnomalyDetector(
            anomaly_score=score, random_state=seed, device=args.device, **settings
        )
        scores = det.fit(X, y).score_samples(X_test)
    return {
        "auc": roc_auc_score(is_anomaly, -scores),
        "average_precision": average_precision_score(is_anomaly, -scores),
    }


def make_cells(args):
    """List the models to fit: scores for each share of labels, rivals without any."""
    params = parse_params(args.params)
    rows = {"limit": args.limit}
    if args.train == "all":
        rows["train"] = "all"
    cells = []
    for name in args.sets:
        is_image = name in IMAGES
        for seed in range(args.seeds):
            for anomaly in args.classes if is_image else [1]:
                for labels in args.labels if is_image else [0.0]:
                    rivals = [] if labels else args.rivals
                    if is_image:
                        rivals = [rival for rival in rivals if rival in FOR_IMAGES]
                    scores = [
                        score
                        for score in args.scores
                        if score != KNOWN_TO_BE_NORMAL
                        or (args.train == "normal" and not is_image)
                    ]
                    for method in [*scores, *rivals]:
                        own = {} if method in RIVALS else params
                        cells.append(
                            {
                                "part": args.part,
                                "set": name,
                                "seed": seed,
                                "anomaly": anomaly,
                                "labels": labels,
                                "method": method,
                                "settings": rows | own,
                            }
                        )
    return cells


def print_tables(rows, metric):
    """Print a metric, one table for each image set and one for all tables."""
    kinds = [row["set"] if row["set"] in IMAGES else "tables" for row in rows]
    for kind in dict.fromkeys(kinds):
        own = [row for row, its in zip(rows, kinds) if its == kind]
        by = "anomaly" if kind in IMAGES else "set"
        columns = dict.fromkeys(row[by] for row in own)
        names = [str(c).split("/")[-1].split("_", 1)[-1][:11] for c in columns]
        print(f"\n| {kind}, {metric} | " + " | ".join(names) + " | mean | lowest |")
        print("|---" * (len(names) + 3) + "|")
        for labels, method in dict.fromkeys((row["labels"], row["method"]) for row in own):
            line = [row for row in own if (row["labels"], row["method"]) == (labels, method)]
            means = [
                np.mean([row[metric] for row in line if row[by] == column])
                for column in columns
            ]
            title = f"{method}, {labels:.0%} labels" if kind in IMAGES else method
            figures = [*means, np.mean(means), np.min(means)]
            texts = ["-" if np.isnan(value) else f"{value:.3f}" for value in figures]
            print(f"| {title} | " + " | ".join(texts) + " |")


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    out = Path(__file__).parent / "results" / "anomalies.csv"
    parser.add_argument("--out", type=Path, default=out, help="the results file")
    parser.add_argument("--part", choices=TABLES, default="test")
    parser.add_argument("--sets", nargs="+", help="(default: tables of the part, and images)")
    parser.add_argument("--train", choices=("normal", "all"), default="normal")
    parser.add_argument("--classes", nargs="+", type=int, default=range(10))
    parser.add_argument("--seeds", type=int, help="(default: 2)")
    parser.add_argument("--labels", nargs="+", type=float, help="shares (default: 0 0.01 1)")
    scores = ("surprise", KNOWN_TO_BE_NORMAL, "elbo", "log_prob")
    parser.add_argument("--scores", nargs="*", choices=scores, default=scores)
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, help="(default: all)")
    parser.add_argument("--limit", type=int, metavar="N", help="train on N rows at most")
    parser.add_argument("--params", default="", help="of the detector, as in a call")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, 1,000 rows, two epochs: to see it work"
    )
    args = parser.parse_args()
    if args.quick:
        args.out = args.out.with_stem(args.out.stem + "_quick")
        args.seeds = args.seeds or 1
        args.labels = args.labels or [0.0, 1.0]
        args.limit = args.limit or 1000
        args.params = args.params or "max_epochs=2"
    args.seeds = args.seeds or 2
    args.labels = args.labels or [0.0, 0.01, 1.0]
    args.sets = args.sets or [*TABLES[args.part], *IMAGES]
    args.sets = [name for given in args.sets for name in GROUPS.get(given, [given])]
    if args.train == "all" and set(args.sets) & set(IMAGES):
        parser.error("--train all is for tables: name them with --sets")
    if args.rivals is None:
        has_pyod = importlib.util.find_spec("pyod") is not None
        args.rivals = [name for name in RIVALS if has_pyod or not name.startswith("PyOD")]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = run_cells(
        args.out, make_cells(args), lambda cell: run_cell(cell, args), METRICS, args.device
    )
    for metric in METRICS:
        print_tables(rows, metric)


if __name__ == "__main__":
    main()
