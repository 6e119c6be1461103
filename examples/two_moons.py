"""Six labels of 600 rows: what the other 594 tell a classifier.

    python examples/two_moons.py

Prints the accuracy of three classifiers on two interleaving half circles with three labels
each, and draws how sure they are of a class, over the plane, into the folder out/. Takes a
minute or two.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.semi_supervised import LabelSpreading

from sklearn_ssvae import SSVAEClassifier

N_ROWS = 600
N_LABELS = 3  # of each class
MODELS = {
    "encoder alone (alpha=inf)": lambda seed: SSVAEClassifier(alpha=np.inf, random_state=seed),
    "LabelSpreading": lambda seed: LabelSpreading(),
    "SSVAEClassifier": lambda seed: SSVAEClassifier(random_state=seed),
}


def load(seed):
    """Make two moons and hide all but a few labels of each."""
    X, y = make_moons(N_ROWS, noise=0.1, random_state=seed)
    rng = np.random.RandomState(seed)
    y_partly = np.full(N_ROWS, -1)
    for label in (0, 1):
        y_partly[rng.choice(np.flatnonzero(y == label), N_LABELS, replace=False)] = label
    return X, y, y_partly


def draw(models, X, y, y_partly, path):
    """Draw the probability of a class over the plane, a panel for each classifier."""
    import matplotlib.pyplot as plt

    labeled = y_partly >= 0
    figure, axes = plt.subplots(1, len(models), figsize=(10.5, 3.1), layout="constrained")
    for ax, (name, model) in zip(axes, models.items()):
        surface = DecisionBoundaryDisplay.from_estimator(
            model,
            X,
            ax=ax,
            class_of_interest=1,
            response_method="predict_proba",
            plot_method="pcolormesh",
            eps=0.3,
            cmap="PuOr",
            vmin=0,
            vmax=1,
            alpha=0.8,
        ).surface_
        ax.scatter(*X[~labeled].T, s=5, color="0.25", linewidths=0)
        for label, color in enumerate(("tab:orange", "tab:purple")):
            ax.scatter(
                *X[y_partly == label].T, s=150, color=color, edgecolors="black", zorder=2
            )
        ax.set(title=f"{name}\n{model.score(X, y):.0%} right", xticks=[], yticks=[])
    bar = figure.colorbar(surface, ax=axes, ticks=[0, 0.5, 1], pad=0.01)
    bar.set_label("probability of the purple class")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()

    drawn = {}
    print(f"{'model':<26} right of {N_ROWS} rows, seeds 0 to {args.seeds - 1}")
    for name, make in MODELS.items():
        accuracies = []
        for seed in range(args.seeds):
            X, y, y_partly = load(seed)
            model = make(seed).fit(X, y_partly)
            drawn.setdefault(name, model)
            accuracies.append(model.score(X, y))
        print(f"{name:<26}", *(f"{value:.3f}" for value in accuracies), flush=True)

    try:
        import matplotlib as mpl
    except ImportError:
        print("\nNo picture: matplotlib is missing (pip install 'sklearn_ssvae[plots]').")
        return
    mpl.use("Agg")
    args.out.mkdir(parents=True, exist_ok=True)
    draw(drawn, *load(0), args.out / "two_moons.png")
    print(f"\nPicture of the probabilities: {args.out}/two_moons.png")


if __name__ == "__main__":
    main()
