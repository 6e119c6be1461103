"""Table 6: anomaly detection on MNIST by the share of labels.

    python examples/paper/table_06.py --data FOLDER

As table 5 with digits 7 and 9 as the anomaly, and labels of 1 to 99 % of the normal rows.
Draws the table as well, if it is whole and has the preset settings. Above half, the paper
draws fewer labeled rows to keep batches of labeled and unlabeled rows 1:1; the estimators
pass all rows in their natural share.
"""

import numpy as np
from anomalies import detector_parser, run_detectors
from common import (
    OPTIONS,
    format_table,
    mean_and_error,
    out_file,
    parse_args,
    print_title,
    values_of,
)

# AUC and its standard error, by anomalous digit and share of labels.
PAPER = {
    7: {
        "1%": (0.751, 0.006),
        "10%": (0.736, 0.009),
        "25%": (0.744, 0.008),
        "50%": (0.752, 0.004),
        "75%": (0.744, 0.004),
        "99%": (0.745, 0.009),
    },
    9: {
        "1%": (0.670, 0.004),
        "10%": (0.679, 0.003),
        "25%": (0.680, 0.004),
        "50%": (0.677, 0.004),
        "75%": (0.673, 0.004),
        "99%": (0.652, 0.004),
    },
}


def draw(table, digits, path):
    """Draw ours and the paper's AUC with their standard errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
    x = np.arange(len(table))
    for i, digit in enumerate(digits):
        ours = np.transpose([mean_and_error(entries[i][0]) for entries in table.values()])
        theirs = np.transpose([entries[i][1] for entries in table.values()])
        style = {"color": f"C{i}", "marker": "o", "capsize": 3}
        ax.errorbar(x, *ours, label=f"{digit}, ours", **style)
        ax.errorbar(x, *theirs, label=f"{digit}, paper", linestyle=":", **style)
    ax.set_xticks(x, table)
    ax.set(xlabel="labeled share of the normal rows", ylabel="ROC AUC")
    figure.legend(title="anomalous digit", loc="outside right upper")
    figure.savefig(path, dpi=100)


def main():
    shares = list(PAPER[7])
    parser = detector_parser(__doc__, list(PAPER))
    parser.add_argument("--labels", nargs="+", choices=shares, default=shares)
    args = parse_args(parser, seeds=10)
    systems = [("SS", share) for share in args.labels]
    rows = run_detectors(args, "table_06", "mnist", "dense", systems)

    print_title(args, "Table 6: MNIST, anomaly detection by the share of labels")
    table = {
        share: [
            (values_of(rows, "auc", labels=share, anomaly=digit), PAPER[digit][share])
            for digit in args.classes
        ]
        for share in args.labels
    }
    print(format_table("labels", [f"anomaly {digit}" for digit in args.classes], table))
    # The picture of the results is that of the whole table, not of a part or a trial.
    options = (*OPTIONS, "epochs", "limit", "test_limit")
    trial = any(getattr(args, name) is not None for name in options)
    whole = args.classes == list(PAPER) and args.labels == shares and not args.held_out
    if args.quick or (whole and not trial):
        draw(table, args.classes, out_file(args, "table_06", ".png"))


if __name__ == "__main__":
    main()
