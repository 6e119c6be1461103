r"""What a few known anomalies bring, the only labels that there are.

    python examples/benchmarks/known_anomalies.py --data FOLDER
    python examples/benchmarks/known_anomalies.py --data FOLDER --known 5

Half of the rows are trained on, anomalies among them, of which a third or a few are known;
the others are unlabeled. Prints the AUC and the average precision on the other half, the mean
over the seeds. The rivals tell the known anomalies from all other rows.
"""

import numpy as np
from datasets import add_data_argument, argument_parser, data_file
from defaults import SETS
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from sklearn_ssvae import SSVAEAnomalyDetector


def detector(**params):
    """Make what scores the test rows by a detector, given which rows are known."""

    def score(X, known, X_test, seed):
        y = np.where(known, 1, -1)
        det = SSVAEAnomalyDetector(anomaly_labels=1, random_state=seed, **params)
        return -det.fit(X, y).score_samples(X_test)

    return score


def without_labels(X, known, X_test, seed):
    """Score by a detector that knows nothing."""
    return -SSVAEAnomalyDetector(random_state=seed).fit(X).score_samples(X_test)


def random_forest(X, known, X_test, seed):
    """Score by scikit-learn's forest, classes balanced."""
    forest = RandomForestClassifier(
        500, min_samples_leaf=2, class_weight="balanced_subsample", random_state=seed
    )
    return forest.fit(X, known).predict_proba(X_test)[:, 1]


def logistic_regression(X, known, X_test, seed):
    """Score by scikit-learn's linear model on standardised columns, classes balanced."""
    linear = LogisticRegression(max_iter=3000, class_weight="balanced")
    return make_pipeline(StandardScaler(), linear).fit(X, known).decision_function(X_test)


SCORES = {
    "no label": without_labels,
    "left out (alpha=0)": detector(alpha=0),
    "consistency=0": detector(consistency=0),
    "**known anomalies**": detector(),
    "random forest": random_forest,
    "logistic regression": logistic_regression,
}


def measure(name, args, seed):
    """AUC and average precision of each score, shape (n_scores, 2)."""
    with np.load(data_file(args.data, name)) as arrays:
        X, odd = arrays["X"].astype(float), arrays["y"].ravel() == 1
    rng = np.random.RandomState(seed)
    rows = rng.permutation(len(X))[: args.rows]
    X, X_test, odd, odd_test = train_test_split(
        X[rows], odd[rows], test_size=0.5, stratify=odd[rows], random_state=seed
    )
    known = np.zeros(len(X), dtype=bool)
    n_known = args.known or max(2, round(odd.sum() / 3))
    known[rng.permutation(np.flatnonzero(odd))[:n_known]] = True
    scores = [score(X, known, X_test, seed) for score in SCORES.values()]
    return [
        (roc_auc_score(odd_test, score), average_precision_score(odd_test, score))
        for score in scores
    ]


def table_row(name, figures):
    """Write a row of the table."""
    cells = [f"{auc:.3f} {precision:.3f}" for auc, precision in figures]
    return f"| {name} | " + " | ".join(cells) + " |"


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    parser.add_argument("--sets", nargs="+", default=SETS["detector"])
    parser.add_argument("--known", type=int, metavar="N", help="(default: a third)")
    parser.add_argument("--rows", type=int, default=3000, help="at most, of each set")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    print("| set | " + " | ".join(SCORES) + " |")
    print("|---" * (len(SCORES) + 1) + "|")
    means = []
    with Parallel(args.jobs) as parallel:
        for name in tqdm(args.sets, unit="set"):
            figures = parallel(delayed(measure)(name, args, s) for s in range(args.seeds))
            means.append(np.mean(figures, axis=0))
            tqdm.write(table_row(name.split("_", 1)[1], means[-1]))
    print(table_row("mean", np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
