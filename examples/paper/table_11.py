"""Table 11: walking as the anomaly of UCI-HAR.

    python examples/paper/table_11.py --data FOLDER

The recurrent network trains on the five other activities of the training part, SS with all
their labels, EU with none. AUC on these activities of the test part and all rows of
walking. The paper has one run of each (its second row, "ES", is the model without labels).
"""

from anomalies import detector_parser, run_detectors
from common import format_table, parse_args, print_title, values_of

WALKING = 1

# AUC of a single run.
PAPER = {"SS": (0.682, None), "EU": (0.641, None)}


def main():
    parser = detector_parser(__doc__, [WALKING])
    args = parse_args(parser, seeds=5, epochs=40)
    systems = [("SS", "100%"), ("EU", "0%")]
    rows = run_detectors(args, "table_11", "uci_har", "recurrent", systems)

    print_title(args, "Table 11: UCI-HAR, anomaly detection, walking anomalous")
    table = {
        model: [(values_of(rows, "auc", model=model), figure)]
        for model, figure in PAPER.items()
    }
    print(format_table("model", ["AUC"], table))


if __name__ == "__main__":
    main()
