"""The paper's dense network and optimizer on MNIST with 100 and 1,000 labels.

    python examples/benchmarks/mnist_100_labels.py --data FOLDER

Fits SS, the semi-supervised model, and ES, its encoder and classifier alone on the same
labels, and prints the accuracy and log loss on the 10,000 test images beside the figures of
Table 3 of the paper (arXiv:1908.03015). Takes about 15 minutes on two cores.
"""

import time

import numpy as np
from datasets import add_data_argument, argument_parser, data_file, hide_labels
from sklearn.metrics import log_loss

from sklearn_ssvae import SSVAEClassifier

PAPER = {
    ("SS", 100): "0.808 / 0.80",
    ("ES", 100): "0.763 / 0.75",
    ("SS", 1000): "0.935 / 0.22",
    ("ES", 1000): "0.902 / 0.41",
}

# Table 13 of the paper. Batches, alpha, beta and epochs were compared on 10,000 training
# images (README.md).
NETWORK = {
    "hidden_layer_sizes": (1024, 1024),
    "latent_dim": 2,
    "likelihood": "bernoulli",
    "optimizer": "rmsprop",
    "learning_rate": 5e-4,
}


def main():
    parser = argument_parser(__doc__)
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--epochs", type=int, default=5, help="of SS")
    parser.add_argument("--es-epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--labeled-fraction", type=float, default=0.1)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--beta", type=float, default=4.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--verbose", type=int, default=0)
    args = parser.parse_args()

    arrays = np.load(data_file(args.data, "mnist"))
    X_train, X_test = (
        arrays[f"X_{part}"].reshape(-1, 784) / np.float32(255) for part in ("train", "test")
    )
    y_train, y_test = arrays["y_train"], arrays["y_test"]

    figures = {}
    for n_labels in args.labels:
        for seed in range(args.seeds):
            y = hide_labels(y_train, n_labels, seed)
            for name, alpha, epochs in (
                ("ES", np.inf, args.es_epochs),
                ("SS", args.alpha, args.epochs),
            ):
                start = time.perf_counter()
                clf = SSVAEClassifier(
                    **NETWORK,
                    alpha=alpha,
                    beta=args.beta,
                    labeled_fraction=args.labeled_fraction,
                    batch_size=args.batch_size,
                    max_epochs=epochs,
                    device=args.device,
                    random_state=seed,
                    verbose=args.verbose,
                ).fit(X_train, y)
                proba = clf.predict_proba(X_test)
                accuracy = (clf.classes_[proba.argmax(1)] == y_test).mean()
                loss = log_loss(y_test, proba)
                figures.setdefault((name, n_labels), []).append((accuracy, loss))
                print(
                    f"{n_labels:5d} labels  seed {seed}  {name}  accuracy {accuracy:.4f}"
                    f"  log loss {loss:.3f}  {time.perf_counter() - start:.0f} s",
                    flush=True,
                )

    print("\nlabels  model  accuracy          log loss        paper")
    for (name, n_labels), values in figures.items():
        (accuracy, loss), (a_error, l_error) = np.mean(values, 0), np.std(values, 0)
        print(
            f"{n_labels:6d}  {name}     {accuracy:.4f} +- {a_error:.4f}"
            f"  {loss:.3f} +- {l_error:.3f}  {PAPER.get((name, n_labels), '')}"
        )


if __name__ == "__main__":
    main()
