"""Table 3: MNIST with 100 and 1,000 labels.

    python examples/paper/table_03.py --data FOLDER

SS learns from 60,000 images of which some have labels, ES, its encoder and classifier
alone, from the labeled ones; test on the 10,000 test images.
"""

from classification import run_table

# Accuracy and log loss, each with its standard error.
PAPER = {
    ("SS", "dense", 100): ((0.808, 0.006), (0.80, 0.01)),
    ("ES", "dense", 100): ((0.763, 0.003), (0.75, 0.01)),
    ("SS", "conv", 100): ((0.811, 0.006), (0.86, 0.03)),
    ("ES", "conv", 100): ((0.765, 0.003), (0.744, 0.009)),
    ("SS", "dense", 1000): ((0.9346, 0.0009), (0.215, 0.002)),
    ("ES", "dense", 1000): ((0.902, 0.006), (0.41, 0.03)),
    ("SS", "conv", 1000): ((0.945, 0.001), (0.218, 0.06)),
    ("ES", "conv", 1000): ((0.89, 0.02), (0.6, 0.2)),
}

# Found on training images whose labels were hidden (results/README.md).
CHOSEN = {
    ("dense", 100): {
        "beta": 4.0,
        "labeled_fraction": 0.1,
        "batch_size": 256,
        "max_epochs": 4,
    },
    ("dense", 1000): {
        "alpha": 100.0,
        "decoder_label": "observed",
        "labeled_fraction": 0.1,
        "batch_size": 128,
    },
    ("conv", 100): {
        "beta": 4.0,
        "labeled_fraction": 0.1,
        "max_epochs": 6,
    },
    ("conv", 1000): {
        "alpha": 100.0,
        "decoder_label": "observed",
        "labeled_fraction": 0.1,
        "max_epochs": 3,
    },
}


def main():
    run_table(
        __doc__,
        "table_03",
        "Table 3: MNIST, semi-supervised classification",
        "mnist",
        PAPER,
        seeds=10,
        epochs=None,
        es_epochs=20,
        chosen=CHOSEN,
        averaged=("dense", "conv"),
    )


if __name__ == "__main__":
    main()
