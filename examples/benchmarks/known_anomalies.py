r"""What a few known anomalies bring, the only labels that there are.

    python examples/benchmarks/known_anomalies.py --data FOLDER

Half of the rows are trained on, anomalies among them, a third of which are known as such;
the others are unlabeled, or are all called a kind of normal rows. Prints the AUC on the other
half, the mean over the seeds.
"""

import numpy as np
from datasets import add_data_argument, argument_parser, data_file
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from sklearn_ssvae import SSVAEAnomalyDetector

SETS = ["adbench/6_cardio", "adbench/40_vowels", "adbench/38_thyroid", "adbench/18_Ionosphere"]
SETTINGS = {
    "no label": lambda known: None,
    "others unlabeled": lambda known: np.where(known, 1, -1),
    "others a normal kind": lambda known: np.where(known, 1, 0),
}


def measure(name, folder, seed):
    """AUC of each setting on the half that was not trained on."""
    with np.load(data_file(folder, name)) as arrays:
        X, odd = arrays["X"].astype(float), arrays["y"].ravel() == 1
    X, X_test, odd, odd_test = train_test_split(
        X, odd, test_size=0.5, stratify=odd, random_state=seed
    )
    known = odd & (np.random.RandomState(seed).uniform(size=len(odd)) < 1 / 3)
    figures = []
    for labels in SETTINGS.values():
        y = labels(known)
        det = SSVAEAnomalyDetector(
            anomaly_labels=None if y is None else 1, random_state=seed
        ).fit(X, y)
        figures.append(roc_auc_score(odd_test, -det.score_samples(X_test)))
    return figures


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print("| set | " + " | ".join(SETTINGS) + " |")
    print("|---" * (len(SETTINGS) + 1) + "|")
    means = []
    for name in tqdm(args.sets, unit="set"):
        means.append(
            np.mean([measure(name, args.data, seed) for seed in range(args.seeds)], axis=0)
        )
        tqdm.write(f"| {name} | " + " | ".join(f"{auc:.3f}" for auc in means[-1]) + " |")
    print("| mean | " + " | ".join(f"{auc:.3f}" for auc in np.mean(means, axis=0)) + " |")


if __name__ == "__main__":
    main()
