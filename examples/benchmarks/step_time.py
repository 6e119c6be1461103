"""Milliseconds of a training step, by network and precision.

    python examples/benchmarks/step_time.py --data FOLDER --device cuda

Each of the paper's networks, and the classifier with its defaults, learns in batches of 128
from images of MNIST of which 500 have labels; the network for Small-NORB from noise of its
pictures' size. The first epoch, which warms up, is not counted.
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
    parser.add_argument("--rows", type=int, default=6400)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    X, _, y, _ = load_split("mnist", args.data, args.rows, 0)
    y = hide_labels(y, 500, 0)
    noise = np.random.RandomState(0).uniform(size=(args.rows // 5, 96, 96, 2))
    print("| network | float32 | bfloat16 |")
    print("|---|---|---|")
    for name in args.networks:
        rows = noise.astype(np.float32) if name == "small_norb" else X
        times = []
        for precision in ("float32", "bfloat16"):
            params = {**NETWORKS[name], "batch_size": 128, "max_epochs": 1}
            clf = SSVAEClassifier(
                **params,
                precision=precision,
                device=args.device,
                warm_start=True,
                random_state=0,
            ).fit(rows, y[: len(rows)])
            before = clf.net_.n_batches
            start = time.perf_counter()
            clf.fit(rows, y[: len(rows)])
            seconds = time.perf_counter() - start
            times.append(f"{1000 * seconds / (clf.net_.n_batches - before):.1f}")
        print(f"| {name} | {' | '.join(times)} |", flush=True)


if __name__ == "__main__":
    main()
