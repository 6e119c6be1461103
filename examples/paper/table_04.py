"""Table 4: MNIST with all 60,000 labels, the decoder as a regularizer.

    python examples/paper/table_04.py --data FOLDER

SS, and ES, its encoder and classifier alone; test on the 10,000 test images. The paper
trains "until converged"; here both train for 20 epochs.
"""

from classification import run_table
from table_08 import CHOSEN

# Accuracy and log loss, each with its standard error.
PAPER = {
    ("SS", "dense", 60_000): ((0.9855, 0.0003), (0.062, 0.001)),
    ("ES", "dense", 60_000): ((0.9814, 0.0003), (0.131, 0.003)),
    ("SS", "conv", 60_000): ((0.9916, 0.0003), (0.036, 0.002)),
    ("ES", "conv", 60_000): ((0.9904, 0.0009), (0.055, 0.009)),
}


def main():
    run_table(
        __doc__,
        "table_04",
        "Table 4: MNIST, all labels",
        "mnist",
        PAPER,
        seeds=10,
        epochs=20,
        es_epochs=20,
        chosen=CHOSEN,
        averaged=("conv",),
        quick={"es_epochs": 2},
    )


if __name__ == "__main__":
    main()
