"""Table 10: UCI-HAR, the recurrent network with 100, 1,000 and all 7,352 labels.

    python examples/paper/table_10.py --data FOLDER

Gyroscope and acceleration (six channels) over 128 steps, six activities; test on the 2,947
test rows. The paper has one run of each and no epochs; its predecessor, the blog post
"One Model to Rule Them All", trains the recurrent models for 40 epochs.
"""

from classification import run_table

# Accuracy and log loss of a single run.
PAPER = {
    ("SS", "recurrent", 100): ((0.630, None), (4.000, None)),
    ("ES", "recurrent", 100): ((0.381, None), (1.538, None)),
    ("SS", "recurrent", 1000): ((0.839, None), (0.503, None)),
    ("ES", "recurrent", 1000): ((0.690, None), (0.820, None)),
    ("SS", "recurrent", 7352): ((0.917, None), (0.310, None)),
    ("ES", "recurrent", 7352): ((0.909, None), (0.428, None)),
}


def main():
    run_table(
        __doc__,
        "table_10",
        "Table 10: UCI-HAR, classification",
        "uci_har",
        PAPER,
        seeds=5,
        epochs=40,
        es_epochs=40,
        averaged=("recurrent",),
    )


if __name__ == "__main__":
    main()
