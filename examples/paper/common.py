"""What the scripts of the paper's tables share: arguments, data, cells and printing.

A cell is one trained model: a row of the results file. Finished cells are read back from
the file, so that a script which was stopped goes on where it was.
"""

import argparse
import csv
import datetime
import json
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit
from tqdm import tqdm

# After the folder of the script, which may have a module of the same name.
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from datasets import add_data_argument, argument_parser, data_file, hide_labels

from sklearn_ssvae import paper_params

# What --quick sets, unless the option is given or the script names other values.
QUICK = {"seeds": 1, "limit": 2000, "test_limit": 1000, "epochs": 2, "es_epochs": 5}

FASHION = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]

# Parameters of the estimators that the command line has under their own names.
OPTIONS = ("alpha", "beta", "batch_size", "labeled_fraction", "decoder_label", "precision")

# Parameters that no term of the loss reads: they do not tell cells apart.
UNUSED = {
    "SS": (),
    "ES": ("beta", "kl_warmup", "labeled_fraction", "prior", "decoder_label", "consistency"),
    "EU": ("alpha", "labeled_fraction", "decoder_label", "consistency"),
}


# Arguments


def positive_int(text):
    """Read a whole number of 1 or more."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Got {text}.")
    return int(text)


def paper_parser(doc):
    """Make a parser of the arguments that all scripts have."""
    parser = argument_parser(doc)
    add_data_argument(parser)
    out = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=out, help="folder of the results")
    parser.add_argument(
        "--seeds", type=positive_int, metavar="N", help="train with seeds 0 to N - 1"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one seed, few rows and epochs: minutes on two cores, results in *_quick.*",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="train on N rows only")
    parser.add_argument(
        "--test-limit", type=positive_int, metavar="N", help="test on N rows only"
    )
    for name in ("--epochs", "--batch-size"):
        parser.add_argument(name, type=positive_int, help="instead of the preset's")
    for name in ("--alpha", "--beta", "--labeled-fraction"):
        parser.add_argument(name, type=float, help="instead of the preset's")
    parser.add_argument(
        "--decoder-label", choices=["predicted", "observed"], help="instead of the preset's"
    )
    parser.add_argument("--precision", help="bfloat16: faster where there are units for it")
    return parser


def parse_args(parser, *, quick=None, **full):
    """Parse the command line and fill in what it leaves open.

    Parameters
    ----------
    parser : ArgumentParser
        Made by `paper_parser`.
    quick : dict, default=None
        Where the script's --quick differs from `QUICK`.
    **full
        Values of a full run.

    Returns
    -------
    args : Namespace
        The arguments.
    """
    args = parser.parse_args()
    defaults = {**full, **({**QUICK, **(quick or {})} if args.quick else {})}
    for name, value in defaults.items():
        if getattr(args, name, 0) is None:
            setattr(args, name, value)
    return args


def out_file(args, name, suffix):
    """Path of a results file; a run on rows left out and a quick run have their own."""
    args.out.mkdir(parents=True, exist_ok=True)
    name += "_held_out" * getattr(args, "held_out", False) + "_quick" * args.quick
    return args.out / f"{name}{suffix}"


def model_settings(args, kind, preset, chosen=None):
    """Collect the settings of a model: the preset's, the chosen and the command line's.

    Parameters
    ----------
    args : Namespace
        Made by `parse_args`.
    kind : {"SS", "ES", "EU"}
        The semi-supervised model or one of its siblings.
    preset : str
        A name of `paper_params`.
    chosen : dict, default=None
        What the script sets where the paper leaves it open; the command line wins.

    Returns
    -------
    settings : dict
        Parameters of the estimator, and limits on rows under ``limit``, ``test_limit``.
    """
    settings = {**paper_params(preset), **(chosen or {})}
    options = {"max_epochs": args.es_epochs if kind == "ES" else args.epochs}
    options.update({name: getattr(args, name) for name in OPTIONS})
    settings.update({name: value for name, value in options.items() if value is not None})
    if kind == "ES":
        settings["alpha"] = np.inf
    for name in ("limit", "test_limit"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    return {name: value for name, value in settings.items() if name not in UNUSED[kind]}


def estimator_params(args, cell):
    """Return the keyword arguments of a cell's estimator."""
    params = {**cell["settings"], "device": args.device, "random_state": cell["seed"]}
    return {name: params[name] for name in params if not name.endswith("limit")}


# Data


@cache
def load(name, folder):
    """Load X_train, y_train, X_test, y_test: images in [0, 1], six channels of UCI-HAR.

    These are the two sensors' own, gyroscope and acceleration with gravity; the paper has
    six features and does not name them. Without gravity, as in channels 0 to 5, sitting,
    standing and lying are alike: all labels then give .766, where the paper has .917.
    """
    with np.load(data_file(folder, name)) as arrays:
        parts = []
        for part in ("train", "test"):
            X = arrays[f"X_{part}"]
            X = X / np.float32(255) if X.dtype == np.uint8 else X[..., 3:]
            parts += [X, arrays[f"y_{part}"].astype(int)]
    return parts


def load_held_out(name, folder, seed):
    """Load as `load` does, with training rows that are left out in place of the test part.

    What the paper leaves open is chosen on them. They are a sixth of the images or, as the
    test part is of other people, all series of a third of the people.
    """
    X, y, *_ = load(name, folder)
    with np.load(data_file(folder, name)) as arrays:
        subjects = arrays.get("subject_train")
    if subjects is None:
        splitter = StratifiedShuffleSplit(1, test_size=len(y) // 6, random_state=seed)
    else:
        splitter = GroupShuffleSplit(1, test_size=1 / 3, random_state=seed)
    train, test = next(splitter.split(X, y, subjects))
    return [X[train], y[train], X[test], y[test]]


def choose_rows(y, n, seed):
    """Row numbers of n rows, the same share of every class; of all rows if n is None."""
    return np.arange(len(y)) if n is None else np.flatnonzero(hide_labels(y, n, seed) >= 0)


def hide_factors(factors, n_labeled, seed):
    """Keep all factors of n_labeled rows, the same share of every category."""
    category = hide_labels(factors[:, 0], n_labeled, seed)
    return np.where(category[:, None] >= 0, factors, -1)


def anomaly_auc(scores, is_anomaly):
    """ROC AUC of the paper's score, the negative log-probability."""
    return roc_auc_score(is_anomaly, -scores)


# Cells


def device_name(device):
    """Name the device that an estimator's `device` means."""
    if device == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        device = "cpu" if found is None else found.type
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _as_text(cell):
    """Identity of a cell, as the results file has it."""
    return {
        name: json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
        if isinstance(value, dict)
        else str(value)
        for name, value in cell.items()
    }


def read_rows(path):
    """Read the finished rows of a results file; a half-written last one is cut off."""
    if not path.exists():
        return []
    with path.open("r+b") as file:
        text = file.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            file.truncate(whole)
    return list(csv.DictReader(text[:whole].decode().splitlines()))


def run_cells(path, cells, run, metrics, device="auto"):
    """Run the cells that the results file lacks; append a row to it for each.

    Parameters
    ----------
    path : Path
        The results file, made where it is missing.
    cells : list of dict
        What identifies each cell: seed, model, labels and so on, the same keys in all of
        them, and ``settings``, a dict.
    run : callable
        Maps a cell to a dict of its metrics: numbers or lists of numbers.
    metrics : list of str
        Names of the metrics.
    device : str, default="auto"
        Recorded, not part of the identity.

    Returns
    -------
    rows : list of dict
        The cells in their order, each with its metrics.
    """
    if not cells:
        raise SystemExit("There is no model to train: these options leave none.")
    columns = [*cells[0], *metrics, "seconds", "device", "date"]
    finished = {}
    rows = read_rows(path)
    if rows and list(rows[0]) != columns:
        raise SystemExit(f"{path} has other columns than {', '.join(columns)}: move it away.")
    for row in rows:
        key = tuple(row[name] for name in cells[0])
        finished[key] = {name: json.loads(row[name]) for name in metrics}

    keys = [tuple(_as_text(cell).values()) for cell in cells]
    todo = [(key, cell) for key, cell in zip(keys, cells) if key not in finished]
    bar = tqdm(todo, initial=len(cells) - len(todo), total=len(cells), unit="cell")
    for key, cell in bar:
        title = "  ".join(f"{k} {v}" for k, v in cell.items() if k != "settings")
        bar.set_postfix_str(title)
        start = time.perf_counter()
        values = {name: np.round(value, 6).tolist() for name, value in run(cell).items()}
        seconds = time.perf_counter() - start
        row = {
            **_as_text(cell),
            **{name: json.dumps(values[name]) for name in metrics},
            "seconds": f"{seconds:.1f}",
            "device": device_name(device),
            "date": datetime.date.today().isoformat(),
        }
        new = not path.exists() or not path.stat().st_size
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        finished[key] = values
        shown = "  ".join(f"{name} {values[name]}" for name in metrics)
        bar.write(f"{title}  {shown}  {seconds:.0f} s")
    return [{**cell, **finished[key]} for key, cell in zip(keys, cells)]


def values_of(rows, metric, **where):
    """Return a metric of the rows that match, in their order."""
    return [
        row[metric] for row in rows if all(row[name] == value for name, value in where.items())
    ]


# Printing


def mean_and_error(values):
    """Mean and its standard error; the error of a single value is NaN."""
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return values.mean(), error


def standard_errors_apart(values, published):
    """Difference of our mean to a published figure, in combined standard errors.

    Parameters
    ----------
    values : list of float
        One for each seed.
    published : tuple of float
        The figure and its standard error; None for the error of a single run, which is
        taken to vary as our runs do.

    Returns
    -------
    difference : float
        NaN where we have a single value.
    """
    mean, error = mean_and_error(values)
    theirs, their_error = published
    if their_error is None:
        their_error = error * np.sqrt(len(values))
    return (mean - theirs) / np.hypot(error, their_error)


def _with_error(mean, error, form):
    error = "" if error is None or np.isnan(error) else f" +- {error:{form}}"
    return f"{mean:{form}}{error}"


def format_table(corner, columns, rows, form=".3f"):
    """Set our figures beside the paper's, as a table in Markdown.

    Parameters
    ----------
    corner : str
        Header of the first column.
    columns : list of str
        Header of each group of figures.
    rows : dict of list of tuple
        For the name of each row and each column our values, one for each seed, and the
        published figure, a tuple of it and its standard error.
    form : str or list of str, default=".3f"
        Format of our figures, one for all columns or one for each.

    Returns
    -------
    text : str
        The table.
    """
    forms = [form] * len(columns) if isinstance(form, str) else form
    lines = [[corner]]
    for column in columns:
        lines[0] += [f"{column}, ours", "paper", "diff/SE"]
    for name, entries in rows.items():
        line = [str(name)]
        for (values, published), form in zip(entries, forms):
            if values:
                apart = standard_errors_apart(values, published)
                line.append(_with_error(*mean_and_error(values), form))
            else:
                apart = np.nan
                line.append("-")
            line.append(_with_error(*published, "g"))
            line.append("-" if np.isnan(apart) else f"{apart:+.1f}")
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(line, widths)) + " |"
        for line in lines
    )


def print_title(args, title):
    """Print a table's title, and what makes the run less than a full one."""
    print(f"\n{title}")
    print(f"Ours: mean +- standard error over {args.seeds} seed(s).")
    if args.quick:
        print("QUICK RUN, only to see the script work: no figure of the method.")
    if args.limit is not None:
        print(f"TRAINED ON {args.limit:,} ROWS ONLY, the paper on all.")
    if getattr(args, "held_out", False):
        print("ON TRAINING ROWS THAT WERE LEFT OUT, the paper on the test part.")
    if args.test_limit is not None:
        print(f"Tested on at most {args.test_limit:,} rows of each part.")
    print()
