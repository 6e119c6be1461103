"""Training in bfloat16 against float32: seconds, loss and accuracy.

    python examples/benchmarks/precision.py --data FOLDER

Each of the paper's networks, and the classifier with its defaults, learns from rows of MNIST
with 100 labels and is tested on 2,000 others. The two precisions take turns; the ratio is the
median over the rounds, whose seeds differ. Only a CPU with units for bfloat16 (AMX) gains
by it; on a large GPU these networks are too small to (see step_time.py).
"""

import time

import numpy as np
from datasets import add_data_argument, argument_parser, hide_labels, load_split

from sklearn_ssvae import SSVAEClassifier, paper_params

NETWORKS = {
    "defaults": {},
    **{name: paper_params(name) for name in ("dense", "conv", "small_norb", "recurrent")},
}


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    print("| network | bfloat16 / float32, seconds | ratio | loss | accuracy |")
    print("|---|---|---|---|---|")
    for name in args.networks:
        seconds, losses, scores = [], [], []
        for seed in range(args.rounds):
            X, X_test, y, y_test = load_split("mnist", args.data, args.rows, seed)
            y_partly = hide_labels(y, 100, seed)
            for precision in ("bfloat16", "float32"):
                params = {**NETWORKS[name], "max_epochs": args.epochs, "device": args.device}
                clf = SSVAEClassifier(**params, precision=precision, random_state=seed)
                start = time.perf_counter()
                clf.fit(X, y_partly)
                seconds.append(time.perf_counter() - start)
                losses.append(clf.history_["loss"][-1])
                scores.append(clf.score(X_test[:2000], y_test[:2000]))
        seconds = np.reshape(seconds, (-1, 2))
        ratio = np.median(seconds[:, 0] / seconds[:, 1])
        pairs = [
            " / ".join(f"{mean:{form}}" for mean in np.reshape(values, (-1, 2)).mean(axis=0))
            for values, form in ((seconds, ".1f"), (losses, ".4f"), (scores, ".3f"))
        ]
        print(f"| {name} | {pairs[0]} | {ratio:.2f} | {pairs[1]} | {pairs[2]} |", flush=True)


if __name__ == "__main__":
    main()
