"""Choose what the paper leaves open, on training rows that are left out.

    python examples/paper/held_out.py --data FOLDER --data-set mnist --labels 100 --beta 4

SS and ES learn from five sixths of the training images, or the series of two thirds of the
people, of which some have labels: accuracy and log loss on the others after each epoch. The
test part is not read. The settings of tables 3, 7, 8 and 10 were chosen so.
"""

import numpy as np
from classification import METRICS, NAMES, learning_curve
from common import (
    choose_rows,
    estimator_params,
    hide_labels,
    load_held_out,
    mean_and_error,
    model_settings,
    out_file,
    paper_parser,
    parse_args,
    positive_int,
    print_title,
    run_cells,
)


def held_out_curve(cell, args):
    """Train one classifier; return its metrics on the images left out, by epoch."""
    parts = load_held_out(cell["data_set"], args.data, cell["seed"])
    X_train, y_train, X_test, y_test = parts
    rows = choose_rows(y_train, args.limit, cell["seed"])
    labels = hide_labels(y_train[rows], cell["labels"], cell["seed"])
    test = choose_rows(y_test, args.test_limit, 0)
    params = estimator_params(args, cell)
    return learning_curve(params, X_train[rows], labels, X_test[test], y_test[test])


def main():
    parser = paper_parser(__doc__)
    sets = ["mnist", "fashion_mnist", "uci_har"]
    parser.add_argument("--data-set", choices=sets, default="mnist")
    parser.add_argument(
        "--network", choices=list(NAMES), help="(default: dense, of uci_har recurrent)"
    )
    parser.add_argument("--labels", type=positive_int, default=1000)
    parser.add_argument("--models", nargs="+", choices=["SS", "ES"], default=["SS"])
    parser.add_argument(
        "--es-epochs", type=positive_int, help="epochs of ES, over its labeled rows"
    )
    parser.add_argument(
        "--last-batch", action="store_true", help="weights of the last batch, no averages"
    )
    args = parse_args(parser, seeds=2, es_epochs=20)
    if args.network is None:
        args.network = "recurrent" if args.data_set == "uci_har" else "dense"

    left_open = {"average": not args.last_batch}
    cells = [
        {
            "seed": seed,
            "data_set": args.data_set,
            "model": f"{model} {NAMES[args.network]}",
            "labels": args.labels,
            "settings": model_settings(args, model, args.network, left_open),
        }
        for seed in range(args.seeds)
        for model in args.models
    ]
    rows = run_cells(
        out_file(args, "held_out", ".csv"),
        cells,
        lambda cell: held_out_curve(cell, args),
        METRICS,
        args.device,
    )

    print_title(args, f"{args.data_set}, {args.labels:,} labels: rows left out, by epoch")
    for model in dict.fromkeys(cell["model"] for cell in cells):
        for metric in METRICS:
            curves = [row[metric] for row in rows if row["model"] == model]
            figures = [f"{mean_and_error(epoch)[0]:.4f}" for epoch in np.transpose(curves)]
            print(f"{model}  {metric:8}  {'  '.join(figures)}")


if __name__ == "__main__":
    main()
