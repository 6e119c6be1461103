"""Fit time of the estimator over a hand-written torch loop with the same work.

    python examples/benchmarks/fit_speed.py

Both train the same network with the same optimizer on batches of the same composition. The
loop is what one would write by hand for speed: tensors in memory, a whole batch fetched by
one index, no DataLoader, no record of the terms, no checks. Two shapes: MNIST's (60,000 x
784, random values, all rows unlabeled but 100; hidden 1024-1024, batch 256, one epoch of
60,000 unlabeled and 60,000 drawn labeled rows) and a table's (10,000 x 30, hidden 64-64,
batch 128, 20 epochs). The two take turns; the ratio is the median over the rounds.
"""

import time

import numpy as np
import torch
from datasets import argument_parser
from torch import nn
from torch.nn import functional as F

from sklearn_ssvae import SSVAEClassifier

SHAPES = {
    "mnist": {
        "n_rows": 60_100,
        "n_labeled": 100,
        "n_features": 784,
        "hidden": 1024,
        "batch_size": 256,
        "epochs": 1,
        "n_classes": 10,
        "latent_dim": 2,
    },
    "table": {
        "n_rows": 10_000,
        "n_labeled": 1_000,
        "n_features": 30,
        "hidden": 64,
        "batch_size": 128,
        "epochs": 20,
        "n_classes": 3,
        "latent_dim": 8,
    },
}


def make_data(shape):
    """Random rows in [0, 1]; what they are makes no difference to the time."""
    rng = np.random.RandomState(0)
    X = rng.uniform(size=(shape["n_rows"], shape["n_features"])).astype(np.float32)
    y = np.full(shape["n_rows"], -1)
    y[: shape["n_labeled"]] = np.arange(shape["n_labeled"]) % shape["n_classes"]
    return X, y


def fit_estimator(X, y, shape):
    """Train by the package."""
    SSVAEClassifier(
        hidden_layer_sizes=(shape["hidden"], shape["hidden"]),
        latent_dim=shape["latent_dim"],
        likelihood="bernoulli",
        prior="normal",
        beta=1.0,
        consistency=0.0,
        batch_size=shape["batch_size"],
        labeled_fraction=0.5,
        average=False,
        max_epochs=shape["epochs"],
        device="cpu",
        random_state=0,
    ).fit(X, y)


class HandWritten(nn.Module):
    """The network in plain torch."""

    def __init__(self, d, h, latent_dim, n_classes):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.mean = nn.Linear(h, latent_dim)
        self.log_var = nn.Linear(h, latent_dim)
        self.pi = nn.Linear(h, n_classes)
        self.decoder = nn.Sequential(
            nn.Linear(n_classes + latent_dim, h),
            nn.ReLU(),
            nn.Linear(h, h),
            nn.ReLU(),
            nn.Linear(h, d),
        )

    def loss(self, x, codes):
        """Compute the objective."""
        top = self.encoder(x)
        mean, log_var, logits = self.mean(top), self.log_var(top), self.pi(top)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        decoded = self.decoder(torch.cat([logits.softmax(1), z], 1))
        nll = F.binary_cross_entropy_with_logits(decoded, x, reduction="sum")
        kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum()
        ce = F.cross_entropy(logits, codes, ignore_index=-1)
        return (nll + kl) / x.numel() + ce


def fit_by_hand(X, y, shape):
    """Train by a loop without anything else."""
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    net = HandWritten(
        shape["n_features"], shape["hidden"], shape["latent_dim"], shape["n_classes"]
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    labeled, unlabeled = torch.where(y >= 0)[0], torch.where(y < 0)[0]
    half = shape["batch_size"] // 2
    n_batches = -(-len(unlabeled) // half)
    for _ in range(shape["epochs"]):
        passes = -(-n_batches * half // len(labeled))
        drawn = torch.cat([labeled[torch.randperm(len(labeled))] for _ in range(passes)])
        shuffled = unlabeled[torch.randperm(len(unlabeled))]
        for i in range(n_batches):
            at = slice(i * half, (i + 1) * half)
            rows = torch.cat([drawn[at], shuffled[at]])
            optimizer.zero_grad()
            net.loss(X[rows], y[rows]).backward()
            optimizer.step()


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    args = parser.parse_args()
    n_threads = torch.get_num_threads()
    for name in args.shapes:
        shape = SHAPES[name]
        X, y = make_data(shape)
        # The estimator holds small networks to one thread; so does a careful loop.
        torch.set_num_threads(1 if shape["hidden"] < 512 else n_threads)
        ratios = []
        for _ in range(args.rounds):
            seconds = []
            for fit in (fit_estimator, fit_by_hand):
                start = time.perf_counter()
                fit(X, y, shape)
                seconds.append(time.perf_counter() - start)
            ratios.append(seconds[0] / seconds[1])
            print(f"{name}: {seconds[0]:.2f} s / {seconds[1]:.2f} s", flush=True)
        print(f"{name}: ratio {np.median(ratios):.3f} (median of {args.rounds})")


if __name__ == "__main__":
    main()
