"""Table 5: a digit of MNIST as the anomaly.

    python examples/paper/table_05.py --data FOLDER

Both models train on the nine other digits of the 60,000 training images, SS with all their
labels, EU with none. AUC on these digits of the test images and all images of the
anomalous one.
"""

from anomalies import run_table

# AUC of each digit and its standard error.
PAPER = {
    "EU": [
        (0.949, 0.001),
        (0.47, 0.03),
        (0.9610, 0.0009),
        (0.848, 0.003),
        (0.708, 0.004),
        (0.860, 0.003),
        (0.9295, 0.0008),
        (0.669, 0.002),
        (0.891, 0.004),
        (0.62, 0.02),
    ],
    "SS": [
        (0.969, 0.001),
        (0.095, 0.006),
        (0.9719, 0.0004),
        (0.902, 0.002),
        (0.751, 0.003),
        (0.894, 0.001),
        (0.960, 0.002),
        (0.755, 0.005),
        (0.922, 0.002),
        (0.677, 0.005),
    ],
}


def main():
    run_table(
        __doc__,
        "table_05",
        "Table 5: MNIST, anomaly detection",
        "mnist",
        [str(digit) for digit in range(10)],
        PAPER,
        seeds=10,
    )


if __name__ == "__main__":
    main()
