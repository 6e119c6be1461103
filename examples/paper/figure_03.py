"""Figure 3: Clothes that the dense SS generates, trained on Fashion-MNIST.

    python examples/paper/figure_03.py --data FOLDER

A grid over the latent plane for each class: the class is chosen, z is the style.
"""

from common import FASHION
from generation import draw_figure


def main():
    draw_figure(__doc__, "figure_03", "fashion_mnist", FASHION)


if __name__ == "__main__":
    main()
