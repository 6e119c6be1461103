"""Figure 4: samples of Fashion-MNIST by class (the data, no model).

python examples/paper/figure_04.py --data FOLDER
"""

import numpy as np
from common import FASHION, load, out_file, paper_parser, parse_args

N_SAMPLES = 10


def main():
    args = parse_args(paper_parser(__doc__))
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    X, y, _, _ = load("fashion_mnist", args.data)
    figure, axes = plt.subplots(len(FASHION), N_SAMPLES, figsize=(7, 6))
    for label, row in enumerate(axes):
        for ax, image in zip(row, X[np.flatnonzero(y == label)[:N_SAMPLES]]):
            ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(FASHION[label], rotation=0, ha="right", va="center")
    figure.subplots_adjust(0.15, 0.01, 0.99, 0.99, 0.05, 0.05)
    path = out_file(args, "figure_04", ".png")
    figure.savefig(path, dpi=90)
    print(path)


if __name__ == "__main__":
    main()
