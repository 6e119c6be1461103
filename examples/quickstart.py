"""Fifty labels of 1,797 digits: classify, find anomalies, generate and embed.

    make demo

Prints two tables and draws three pictures into the folder out/. Takes a minute or two.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from threadpoolctl import threadpool_limits

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier

N_LABELED = 50
ODD_DIGIT = 4


def load(seed):
    """Split the digits and hide all but fifty of the training labels."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    labeled, _ = train_test_split(
        np.arange(len(X_train)),
        train_size=N_LABELED,
        stratify=y_train,
        random_state=seed,
    )
    y_partly = np.full(len(X_train), -1)
    y_partly[labeled] = y_train[labeled]
    return X_train, X_test, y_partly, y_train, y_test


def classify(n_splits, seed):
    """Compare classifiers on held-out rows; return the model of the first split."""
    logistic_regression = LogisticRegression(max_iter=5000)
    models = {
        "SSVAEClassifier": SSVAEClassifier(),
        "its encoder alone (ES)": SSVAEClassifier(alpha=np.inf),
        "LabelSpreading": LabelSpreading(kernel="knn", n_neighbors=10),
        "SelfTraining": SelfTrainingClassifier(logistic_regression),
        "LogisticRegression": logistic_regression,
    }
    figures = {name: [] for name in models}
    for split in range(seed, seed + n_splits):
        X_train, X_test, y_partly, _, y_test = load(split)
        labeled = y_partly >= 0
        for name, model in models.items():
            start = time.perf_counter()
            fitted = clone(model)
            if isinstance(model, SSVAEClassifier):
                fitted.set_params(random_state=split)
            rows = labeled if name == "LogisticRegression" else slice(None)
            # Several threads wait for one another here: self-training took 9 s, not 1.
            with threadpool_limits(1):
                fitted.fit(X_train[rows], y_partly[rows])
            seconds = time.perf_counter() - start
            # LabelSpreading gives exact zeros.
            proba = np.clip(fitted.predict_proba(X_test), 1e-6, 1)
            loss = log_loss(y_test, proba / proba.sum(axis=1, keepdims=True))
            figures[name].append((fitted.score(X_test, y_test), loss, seconds))
            if split == seed and name == "SSVAEClassifier":
                clf = fitted
    print(f"\n{N_LABELED} labels of {len(y_partly)} rows, {len(y_test)} held out,", end=" ")
    print(f"mean of {n_splits} splits\n")
    print(f"{'model':<24} accuracy  log loss  seconds")
    for name, values in figures.items():
        accuracy, loss, seconds = np.mean(values, axis=0)
        print(f"{name:<24} {accuracy:8.3f}  {loss:8.3f}  {seconds:7.1f}", flush=True)
    return clf


def find_anomalies(X_train, X_test, y_partly, y_train, y_test, seed):
    """Train without one digit and find it; return the test rows' scores."""
    normal = y_train != ODD_DIGIT
    detectors = {
        "SSVAEAnomalyDetector, no labels": (SSVAEAnomalyDetector, None),
        "SSVAEAnomalyDetector, labels": (SSVAEAnomalyDetector, y_partly[normal]),
        "IsolationForest": (IsolationForest, None),
    }
    print(f"\nanomaly: digit {ODD_DIGIT}, absent from training\n")
    print(f"{'model':<34} AUC")
    scores = {}
    for name, (detector, kinds) in detectors.items():
        det = detector(random_state=seed).fit(X_train[normal], kinds)
        scores[name] = det.score_samples(X_test)
        auc = roc_auc_score(y_test != ODD_DIGIT, scores[name])
        print(f"{name:<34} {auc:.3f}", flush=True)
    return scores["SSVAEAnomalyDetector, labels"]


def draw_generated(clf, path):
    """Draw generated digits, a class in each row."""
    import matplotlib.pyplot as plt

    n_columns = 12
    y = np.repeat(clf.classes_, n_columns)
    X, _ = clf.sample(len(y), y=y, observation_noise=False, random_state=0)
    figure, axes = plt.subplots(10, n_columns, figsize=(n_columns / 2, 5.4))
    for ax, image in zip(axes.flat, X):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.8")
    for ax, label in zip(axes[:, 0], clf.classes_):
        ax.set_ylabel(str(label), rotation=0, ha="right", va="center", fontsize=12)
    figure.suptitle("Generated digits, a class in each row", y=0.98)
    figure.subplots_adjust(0.06, 0.01, 0.99, 0.94, 0.05, 0.05)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_latent_space(clf, X, y, y_partly, path):
    """Draw two principal directions of the latent means, colored by the true class."""
    import matplotlib.pyplot as plt
    from sklearn.decomposition import PCA

    Z = PCA(2).fit_transform(clf.transform(X))
    labeled = y_partly >= 0
    figure, ax = plt.subplots(figsize=(7, 5.6), layout="constrained")
    points = ax.scatter(*Z.T, c=y, cmap="tab10", vmin=-0.5, vmax=9.5, s=10, alpha=0.7)
    ax.scatter(*Z[labeled].T, s=70, facecolors="none", edgecolors="black", linewidths=1)
    figure.colorbar(points, ticks=range(10), label="digit")
    ax.set(
        title="Latent means z gather around their classes (labeled rows ringed)",
        xlabel="first principal direction of z",
        ylabel="second principal direction of z",
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_hardest(X, y, scores, path):
    """Draw the test rows with the lowest scores and mark the true anomalies."""
    import matplotlib.pyplot as plt

    n_rows, n_columns = 3, 10
    order = np.argsort(scores)[: n_rows * n_columns]
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(10, 3.9))
    for ax, row in zip(axes.flat, order):
        odd = y[row] == ODD_DIGIT
        ax.imshow(X[row].reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{y[row]}: {scores[row]:.0f}", fontsize=9)
        ax.spines[:].set(color="tab:red" if odd else "0.8", linewidth=2.5 if odd else 1)
    found = (y[order] == ODD_DIGIT).sum()
    figure.suptitle(
        f"The {len(order)} most abnormal test rows, digit and score in nats: "
        f"{found} are the unknown digit {ODD_DIGIT} (red)"
    )
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.83, 0.12, 0.35)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()

    clf = classify(args.splits, args.seed)
    X_train, X_test, y_partly, y_train, y_test = load(args.seed)
    scores = find_anomalies(X_train, X_test, y_partly, y_train, y_test, args.seed)

    try:
        import matplotlib as mpl
    except ImportError:
        print("\nNo pictures: matplotlib is missing (pip install 'sklearn_ssvae[plots]').")
        return
    mpl.use("Agg")
    args.out.mkdir(parents=True, exist_ok=True)
    draw_generated(clf, args.out / "generated_digits.png")
    draw_latent_space(clf, X_train, y_train, y_partly, args.out / "latent_space.png")
    draw_hardest(X_test, y_test, scores, args.out / "hardest_anomalies.png")
    print(f"\nPictures of generated digits, latent space and anomalies: {args.out}/")


if __name__ == "__main__":
    main()
