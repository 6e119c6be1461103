"""The paper's level on MNIST: its dense network with 100 and 1,000 labels, three seeds.

    python examples/benchmarks/mnist_100_labels.py --data FOLDER

The dense rows of the paper's Table 3, see ``examples/paper/table_03.py``; takes its options.
About 40 minutes on two cores.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "paper"))

from table_03 import main

if __name__ == "__main__":
    sys.argv[1:1] = ["--networks", "dense", "--seeds", "3"]
    main()
