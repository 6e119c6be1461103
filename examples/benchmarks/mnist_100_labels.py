"""The paper's level on MNIST: its dense network with 100 and 1,000 labels, three seeds.

    python examples/benchmarks/mnist_100_labels.py --data FOLDER

The dense rows of the paper's Table 3, see ``examples/paper/table_03.py``; takes its options.
Then the same network and optimizer with 1,000 labels and `consistency`, which the paper does
not have. About an hour on two cores.
"""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "paper"))

import table_03
from classification import run_table

# Found on 10,000 training images whose labels were hidden (paper/results/README.md).
WITH_CONSISTENCY = {
    ("dense", 1000): {
        "consistency": 8.0,
        "augmentation": None,
        "beta": 2.0,
        "labeled_fraction": 0.1,
        "batch_size": 256,
        "max_epochs": 5,
    }
}


def main():
    sys.argv[1:1] = ["--networks", "dense", "--seeds", "3"]
    table_03.main()
    sys.argv += ["--models", "SS", "--labels", "1000"]
    run_table(
        __doc__,
        "table_03",
        "The same with consistency",
        "mnist",
        table_03.PAPER,
        seeds=3,
        epochs=None,
        es_epochs=20,
        chosen=WITH_CONSISTENCY,
    )


if __name__ == "__main__":
    main()
