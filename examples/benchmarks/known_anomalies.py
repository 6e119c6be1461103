r"""What a few known anomalies bring, alone or beside labels of kinds.

    python examples/benchmarks/known_anomalies.py --data FOLDER
    python examples/benchmarks/known_anomalies.py --data FOLDER --known 5
    python examples/benchmarks/known_anomalies.py --sets digits --known 5 --kinds 0.1

Half of the rows are trained on, anomalies among them, of which a third or a few are known;
the others are unlabeled. Prints the AUC and the average precision on the other half, the mean
over the seeds. The rivals tell the known anomalies from all other rows.

Of the digits in turn 1, 4, 7 and 9 is made rare and some of its rows are known, the digit
three further on comes in the test rows alone, and of the rest the share `--kinds` has labels.
Prints both figures for the known kind of anomaly, then for the new one.
"""

import numpy as np
from datasets import add_data_argument, argument_parser, data_file
from defaults import SETS
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from sklearn_ssvae import SSVAEAnomalyDetector

# The label of a known anomaly.
ODD = 99

# Those that are made rare, one a seed.
DIGITS = (1, 4, 7, 9)


def detector(**params):
    """Make what scores the test rows by a detector, given the labels that are known."""

    def score(X, y, X_test, seed):
        det = SSVAEAnomalyDetector(anomaly_labels=ODD, random_state=seed, **params)
        return -det.fit(X, y).score_samples(X_test)

    return score


def without_labels(X, y, X_test, seed):
    """Score by a detector that knows nothing."""
    return -SSVAEAnomalyDetector(random_state=seed).fit(X).score_samples(X_test)


def random_forest(X, y, X_test, seed):
    """Score by scikit-learn's forest, classes balanced."""
    forest = RandomForestClassifier(
        500, min_samples_leaf=2, class_weight="balanced_subsample", random_state=seed
    )
    return forest.fit(X, y == ODD).predict_proba(X_test)[:, 1]


def logistic_regression(X, y, X_test, seed):
    """Score by scikit-learn's linear model on standardised columns, classes balanced."""
    linear = LogisticRegression(max_iter=3000, class_weight="balanced")
    return make_pipeline(StandardScaler(), linear).fit(X, y == ODD).decision_function(X_test)


SCORES = {
    "no label": without_labels,
    "left out (alpha=0)": detector(alpha=0),
    "consistency=0": detector(consistency=0),
    "**known anomalies**": detector(),
    "random forest": random_forest,
    "logistic regression": logistic_regression,
}


def measure(name, args, seed):
    """AUC and average precision of each score, shape (n_scores, 2) or (n_scores, 4)."""
    X, y, X_test, odd_test = (load_digit_split if name == "digits" else load_table)(
        name, args, seed
    )
    figures = []
    for score in SCORES.values():
        found = score(X, y, X_test, seed)
        figures.append(
            [
                metric(odd[odd | normal], found[odd | normal])
                for odd, normal in odd_test
                for metric in (roc_auc_score, average_precision_score)
            ]
        )
    return figures


def load_digit_split(name, args, seed):
    """Make one digit rare and leave another one out of the training rows.

    Returns rows, labels, test rows, and pairs of masks, which of these are to be found among
    which others.
    """
    rare = DIGITS[seed % len(DIGITS)]
    new = (rare + 3) % 10
    X, digits = load_digits(return_X_y=True)
    X, X_test, digits, digits_test = train_test_split(
        X, digits, test_size=0.5, stratify=digits, random_state=seed
    )
    rng = np.random.RandomState(seed)
    n_known = args.known or 10
    is_rare = rng.permutation(np.flatnonzero(digits == rare))[: max(3 * n_known, len(X) // 20)]
    rows = np.append(np.flatnonzero((digits != rare) & (digits != new)), is_rare)
    y = np.where(rng.rand(len(X)) < args.kinds, digits, -1)
    y[is_rare] = -1
    y[is_rare[:n_known]] = ODD
    normal = (digits_test != rare) & (digits_test != new)
    return X[rows], y[rows], X_test, [(digits_test == odd, normal) for odd in (rare, new)]


def load_table(name, args, seed):
    """Return the same for half of a table's rows, with a third of the anomalies known."""
    with np.load(data_file(args.data, name)) as arrays:
        X, odd = arrays["X"].astype(float), arrays["y"].ravel() == 1
    rng = np.random.RandomState(seed)
    rows = rng.permutation(len(X))[: args.rows]
    X, X_test, odd, odd_test = train_test_split(
        X[rows], odd[rows], test_size=0.5, stratify=odd[rows], random_state=seed
    )
    n_known = args.known or max(2, round(odd.sum() / 3))
    y = np.full(len(X), -1)
    y[rng.permutation(np.flatnonzero(odd))[:n_known]] = ODD
    return X, y, X_test, [(odd_test, ~odd_test)]


def table_row(name, figures):
    """Write a row of the table."""
    cells = [" ".join(f"{value:.3f}" for value in of_score) for of_score in figures]
    return f"| {name} | " + " | ".join(cells) + " |"


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    parser.add_argument("--sets", nargs="+", default=SETS["detector"])
    parser.add_argument(
        "--known", type=int, metavar="N", help="(default: a third; digits: 10)"
    )
    parser.add_argument("--kinds", type=float, default=0.0, help="share of labeled digits")
    parser.add_argument("--rows", type=int, default=3000, help="at most, of each set")
    parser.add_argument("--seeds", type=int, help="(default: 2; digits: 4, one for each)")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if "digits" in args.sets and len(args.sets) > 1:
        parser.error("digits have columns of their own: run them alone")
    print("| set | " + " | ".join(SCORES) + " |")
    print("|---" * (len(SCORES) + 1) + "|")
    means = []
    with Parallel(args.jobs) as parallel:
        for name in tqdm(args.sets, unit="set"):
            n_seeds = args.seeds or (len(DIGITS) if name == "digits" else 2)
            figures = parallel(delayed(measure)(name, args, s) for s in range(n_seeds))
            means.append(np.mean(figures, axis=0))
            tqdm.write(table_row(name.split("_", 1)[-1], means[-1]))
    print(table_row("mean", np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
