"""Accuracy of the classifier by epoch when it is trained three times as long as by default.

    python examples/benchmarks/longer_training.py --data FOLDER
    python examples/benchmarks/longer_training.py --data FOLDER --sets mnist --epochs 45

Rows and labels are those of ``defaults.py``; the small tables train for 50 epochs by default,
all of MNIST for 15. Prints the accuracy on held-out rows after every fifth epoch, and how far
the last one is below the best.
"""

import numpy as np
from datasets import (
    N_LABELED,
    add_data_argument,
    argument_parser,
    hide_labels,
    load_split,
    parse_params,
)
from defaults import SETS
from joblib import Parallel, delayed

from sklearn_ssvae import SSVAEClassifier


def accuracy_by_epoch(name, folder, n_rows, n_epochs, every, seed, params):
    """Fit in steps of `every` epochs; return the accuracy after each."""
    X, X_test, y, y_test = load_split(name, folder, n_rows, seed)
    y = hide_labels(y, N_LABELED[name], seed)
    clf = SSVAEClassifier(warm_start=True, max_epochs=every, random_state=seed, **params)
    return [clf.fit(X, y).score(X_test, y_test) for _ in range(every, n_epochs + 1, every)]


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    tables = [name for name in SETS["classifier"] if name != "mnist"]
    parser.add_argument("--sets", nargs="+", default=tables)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--rows", type=int, metavar="N", help="N rows of each part at most")
    parser.add_argument("--params", default="", help="of the classifier, as in a call")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    params = parse_params(args.params)

    print("set            best (epoch)     last    fall  each")
    for name in args.sets:
        runs = Parallel(args.jobs)(
            delayed(accuracy_by_epoch)(
                name, args.data, args.rows, args.epochs, args.every, seed, params
            )
            for seed in range(args.seeds)
        )
        curve = np.mean(runs, axis=0)
        best = curve.argmax()
        print(
            f"{name.split('/')[-1]:14} {curve[best]:.4f} ({args.every * (best + 1):3d})   "
            f"{curve[-1]:.4f}  {curve[best] - curve[-1]:.4f} ",
            " ".join(f"{value:.3f}" for value in curve),
            flush=True,
        )


if __name__ == "__main__":
    main()
