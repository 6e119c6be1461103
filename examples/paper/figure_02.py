"""Figure 2: Digits that the dense SS generates, trained on MNIST.

    python examples/paper/figure_02.py --data FOLDER

A grid over the latent plane for each class: the class is chosen, z is the style.
"""

from generation import draw_figure


def main():
    draw_figure(__doc__, "figure_02", "mnist", [str(digit) for digit in range(10)])


if __name__ == "__main__":
    main()
