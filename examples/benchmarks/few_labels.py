r"""Accuracy with few labels: the classifier with its defaults, its sibling ES, and rivals.

    python examples/benchmarks/few_labels.py --data FOLDER --rows 5000
    python examples/benchmarks/few_labels.py --data FOLDER --sets mnist fashion_mnist \
        --labels 10/class 100/class --models SSVAE LabelSpreading SVC

Every model sees the same rows and labels. Labels are drawn with the classes' shares; a set of
Chapelle, Schoelkopf and Zien comes with its own splits of 10 and 100 labels and is tested on
the rows without, all others on rows that were not trained on. Ours take windows that begin
anywhere in a movement with ``network="recurrent"``, images in their shape, and all else as
by default. Rivals get tables standardised, or divided by one number where columns have a unit
in common, as ours do inside, series as tables, and images flat, in [0, 1]; those that cannot
use unlabeled rows see the labeled ones alone.
A finished line of the results file is not run again.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from datasets import (
    BUNDLED,
    GROUPS,
    add_data_argument,
    argument_parser,
    data_file,
    hide_labels,
    load_split,
    parse_params,
    scale_columns,
)
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC

from sklearn_ssvae import SSVAEClassifier

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "paper"))

from common import run_cells, values_of

TABLES = list(BUNDLED)
OWN_SPLITS = ["sslbook/g241c", "sslbook/Digit1", "sslbook/BCI"]
IMAGES = ["mnist", "fashion_mnist"]
# Series of arbitrary phase, and aligned ones, whose time steps are columns like others.
WINDOWS = ["uci_har", "aeon/BasicMotions"]
SERIES = [*WINDOWS, "aeon/ArrowHead", "aeon/GunPoint"]
LABELS = ["1/class", "5/class", "10/class", "1%", "5%", "25%", "100%"]
METRICS = ["accuracy", "log_loss", "calibration_error"]
N_BINS = 15

# Which models learn from unlabeled rows as well.
SEMI_SUPERVISED = {
    "LabelSpreading": lambda: LabelSpreading(kernel="knn", n_neighbors=10, max_iter=200),
    "SelfTraining LR": lambda: SelfTrainingClassifier(LogisticRegression(max_iter=2000)),
    "SelfTraining HGB": lambda: SelfTrainingClassifier(
        HistGradientBoostingClassifier(min_samples_leaf=5, random_state=0)
    ),
}
SUPERVISED = {
    "LogisticRegression": lambda: LogisticRegression(max_iter=2000),
    "SVC": lambda: SVC(C=10),
    "HGB": lambda: HistGradientBoostingClassifier(min_samples_leaf=5, random_state=0),
    "MLP": lambda: MLPClassifier((512, 512), max_iter=300, random_state=0),
}
OURS = {"SSVAE": {}, "ES": {"alpha": np.inf}}


def load_own_split(name, folder, n_labeled, seed):
    """Return X, y with -1 for the split's unlabeled rows, these rows, and their classes."""
    with np.load(data_file(folder, name)) as arrays:
        X, y = arrays["X"], np.unique(arrays["y"], return_inverse=True)[1]
        labeled = arrays[f"labeled_{n_labeled}"][seed]
        unlabeled = arrays[f"unlabeled_{n_labeled}"][seed]
    y_partly = np.full(len(y), -1)
    y_partly[labeled] = y[labeled]
    return X, y_partly, X[unlabeled], y[unlabeled]


def count(labels, n_rows, n_classes):
    """How many labels a text such as "5/class" or "1%" means."""
    if labels.endswith("/class"):
        return int(labels[: -len("/class")]) * n_classes
    if labels.endswith("%"):
        return round(float(labels[:-1]) / 100 * n_rows)
    return int(labels)


def calibration_error(proba, right):
    """Gap of confidence and accuracy, the mean over bins of equal width."""
    confidence = proba.max(axis=1)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [
        abs((confidence[bins == b] - right[bins == b]).sum()) / len(right)
        for b in range(N_BINS)
    ]
    return sum(gaps)


def run_cell(cell, args):
    """Fit one model; return its metrics on the test rows, NaN where it has none."""
    name, seed, settings = cell["set"], cell["seed"], dict(cell["settings"])
    rows = settings.pop("rows")
    if name in OWN_SPLITS:
        X, y, X_test, y_test = load_own_split(name, args.data, cell["labels"], seed)
    else:
        X, X_test, y, y_test = load_split(name, args.data, rows, seed)
        n_labeled = count(cell["labels"], len(y), len(np.unique(y)))
        y = hide_labels(y, n_labeled, seed)
    if cell["model"] in OURS:
        model = SSVAEClassifier(random_state=seed, device=args.device, **settings)
    else:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
        if name not in IMAGES:
            X, X_test = scale_columns(X, X_test, one_unit=name not in WINDOWS)
        if cell["model"] in SUPERVISED:
            X, y = X[y >= 0], y[y >= 0]
        model = {**SEMI_SUPERVISED, **SUPERVISED}[cell["model"]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="y contains no unlabeled samples")
        model.fit(X, y)
    right = model.predict(X_test) == y_test
    metrics = {"accuracy": right.mean()}
    if hasattr(model, "predict_proba"):
        proba = model.predict_proba(X_test)
        proba = np.nan_to_num(proba, nan=1 / proba.shape[1]).clip(1e-15)
        proba = proba / proba.sum(axis=1, keepdims=True)
        metrics["log_loss"] = log_loss(y_test, proba, labels=model.classes_)
        metrics["calibration_error"] = calibration_error(proba, right)
    return {name: metrics.get(name, np.nan) for name in METRICS}


def label_counts(name, args):
    """Map the texts of ``--labels`` that a set can have to numbers of labels, rising."""
    if name in OWN_SPLITS:
        return {"10": 10, "100": 100}
    y = load_split(name, args.data, args.rows, 0)[2]
    n_classes = len(np.unique(y))
    counts = {text: count(text, len(y), n_classes) for text in args.labels}
    few = {
        text: n
        for text, n in counts.items()
        if n_classes <= n <= len(y) - n_classes
        and len(np.unique(hide_labels(y, n, 0))) == n_classes + 1
    }
    full = {"100%": len(y)} if "100%" in counts else {}
    return dict(sorted(few.items(), key=lambda item: item[1])) | full


def make_cells(args, counts):
    """List the fits; a number of labels that a set cannot have is left out."""
    cells = []
    for name in args.sets:
        for labels in counts[name]:
            for model in args.models:
                if labels == "100%" and model in SEMI_SUPERVISED:
                    continue
                for seed in range(args.seeds):
                    settings = {"rows": args.rows}
                    if model in OURS:
                        kind = {"network": "recurrent"} if name in WINDOWS else {}
                        settings.update(kind | OURS[model] | parse_params(args.params))
                    cells.append(
                        {
                            "set": name,
                            "labels": labels,
                            "model": model,
                            "seed": seed,
                            "settings": settings,
                        }
                    )
    return cells


def mean_of(rows, metric, **where):
    """Mean over the seeds, NaN without any."""
    values = values_of(rows, metric, **where)
    return np.mean(values) if values else np.nan


def print_tables(rows, models):
    """Print accuracy by set and number of labels, then each model's mean rank and wins."""
    tasks = list(dict.fromkeys((row["set"], row["labels"]) for row in rows))
    print("\n| accuracy | labels | " + " | ".join(models) + " |")
    print("|---" * (len(models) + 2) + "|")
    table = np.array(
        [
            [mean_of(rows, "accuracy", set=s, labels=n, model=model) for model in models]
            for s, n in tasks
        ]
    )
    for (name, labels), line in zip(tasks, table):
        cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in line]
        print(f"| {name} | {labels} | " + " | ".join(cells) + " |")
    groups = {
        "all": lambda labels: labels != "100%",
        "1 % to 5 %": lambda labels: labels in ("1%", "5%"),
    }
    for title, chosen in groups.items():
        lines = table[[chosen(labels) for _, labels in tasks]]
        lines = lines[~np.isnan(lines).any(axis=1)]
        if len(lines) and len(models) > 1:
            # The mean of equal shares of rows differs by their rounding: these are ties.
            ranked = lines.round(5)
            ranks = rankdata(-ranked, axis=1)
            wins = (ranked == ranked.max(axis=1, keepdims=True)).sum(axis=0)
            for what, figures, form in [
                ("mean rank", ranks.mean(axis=0), ".2f"),
                ("wins", wins, "d"),
                ("mean accuracy", lines.mean(axis=0), ".3f"),
            ]:
                texts = [format(value, form) for value in figures]
                print(f"| {what}, {title} | {len(lines)} tasks | " + " | ".join(texts) + " |")
    few = [task for task in tasks if groups["all"](task[1])]
    for metric in METRICS[1:]:
        figures = [
            np.nanmean([mean_of(rows, metric, set=s, labels=n, model=model) for s, n in few])
            if model != "SVC"
            else np.nan
            for model in models
        ]
        texts = ["-" if np.isnan(value) else f"{value:.3f}" for value in figures]
        print(f"| mean {metric} | | " + " | ".join(texts) + " |")


def draw(rows, models, counts, path):
    """Draw the accuracy over the number of labels, a panel for each set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n_columns = min(4, len(counts))
    n_lines = -(-len(counts) // n_columns)
    figure, axes = plt.subplots(
        n_lines,
        n_columns,
        figsize=(3.2 * n_columns, 2.7 * n_lines + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for ax, (name, amounts) in zip(axes.flat, counts.items()):
        numbers = list(amounts.values())
        for i, model in enumerate(models):
            means = [
                mean_of(rows, "accuracy", set=name, labels=text, model=model)
                for text in amounts
            ]
            ours = model == "SSVAE"
            ax.plot(
                numbers,
                means,
                marker="o",
                markersize=4 if ours else 2.5,
                linewidth=2.4 if ours else 1,
                color="black" if ours else f"C{i}",
                zorder=3 if ours else 2,
                label=model,
            )
        ax.set_title(name.split("/")[-1], fontsize=10)
        ax.set_xscale("log")
        apart = [n for i, n in enumerate(numbers) if not i or n > 1.3 * numbers[i - 1]]
        ax.set_xticks(apart, map(str, apart))
        ax.minorticks_off()
        ax.tick_params(labelsize=7)
    for ax in axes.flat[len(counts) :]:
        ax.axis("off")
    figure.supxlabel("number of labels", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=min(5, len(models)),
        fontsize=8,
        frameon=False,
    )
    figure.savefig(path, dpi=120)


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    every_model = [*OURS, *SEMI_SUPERVISED, *SUPERVISED]
    out = Path(__file__).parent / "results" / "few_labels.csv"
    parser.add_argument("--out", type=Path, default=out, help="the results file")
    sets = [*TABLES, *OWN_SPLITS, *SERIES, *IMAGES]
    parser.add_argument(
        "--sets", nargs="+", default=sets, help=f"names, or {' or '.join(GROUPS)}"
    )
    parser.add_argument("--labels", nargs="+", default=LABELS, help='"5/class", "1%%", "100"')
    parser.add_argument("--models", nargs="+", choices=every_model, default=every_model)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, metavar="N", help="N rows of each part at most")
    parser.add_argument("--params", default="", help="of the classifier, as in a call")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    args.sets = [name for given in args.sets for name in GROUPS.get(given, [given])]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    counts = {name: label_counts(name, args) for name in args.sets}
    cells = make_cells(args, counts)
    rows = run_cells(args.out, cells, lambda cell: run_cell(cell, args), METRICS, args.device)
    print_tables(rows, args.models)
    draw(rows, args.models, counts, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
