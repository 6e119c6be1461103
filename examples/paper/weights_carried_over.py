"""All weights carry over: EU on MNIST, then 1 % of the labels arrive.

    python examples/paper/weights_carried_over.py --data FOLDER

EU learns from the 60,000 images without labels. Once 600 of them have one, SS goes on from
its weights, or starts from scratch: accuracy on the test images after each epoch of SS. The
paper claims the transition (section 2.4) and has no figure of it.
"""

import numpy as np
from classification import METRICS, learning_curve
from common import (
    choose_rows,
    estimator_params,
    hide_labels,
    load,
    mean_and_error,
    model_settings,
    out_file,
    paper_parser,
    parse_args,
    positive_int,
    print_title,
    run_cells,
    values_of,
)

from sklearn_ssvae import SSVAEAnomalyDetector

MODELS = ["EU, then SS", "SS from scratch"]

# Found as table 3's, for the weights of the last batch.
SETTINGS = {
    "alpha": 100.0,
    "decoder_label": "observed",
    "labeled_fraction": 0.3,
    "batch_size": 256,
    "max_epochs": 8,
}


def continue_or_start(cell, args):
    """Train SS, after EU or from scratch; return its metrics on the test part by epoch."""
    X_train, y_train, X_test, y_test = load("mnist", args.data)
    rows = choose_rows(y_train, args.limit, cell["seed"])
    X = X_train[rows]
    y = hide_labels(y_train[rows], round(cell["labels"] * len(rows)), cell["seed"])
    test = choose_rows(y_test, args.test_limit, 0)

    params = estimator_params(args, cell)
    eu_epochs = params.pop("eu_epochs", 0)
    eu = None
    if eu_epochs:
        eu = SSVAEAnomalyDetector(
            anomaly_score="log_prob", **{**params, "max_epochs": eu_epochs}
        ).fit(X)
    return learning_curve(params, X, y, X_test[test], y_test[test], init_model=eu)


def draw(curves, path):
    """Draw the accuracy of each model by epoch, with its standard error."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for model, values in curves.items():
        mean, error = np.transpose([mean_and_error(epoch) for epoch in np.transpose(values)])
        epochs = np.arange(1, len(mean) + 1)
        ax.errorbar(epochs, mean, error, label=model, marker="o", capsize=3)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch with labels", ylabel="accuracy on the test images")
    ax.legend()
    figure.savefig(path, dpi=100)


def main():
    parser = paper_parser(__doc__)
    parser.add_argument(
        "--eu-epochs", type=positive_int, help="epochs of EU (default: those of SS)"
    )
    parser.add_argument("--share", type=float, default=0.01, help="of rows with a label")
    args = parse_args(parser, quick={"epochs": 3}, seeds=3)
    if not 0 < args.share <= 1:
        parser.error(f"argument --share: must be in (0, 1]. Got {args.share}.")
    settings = model_settings(args, "SS", "dense", SETTINGS)
    eu_epochs = args.eu_epochs or settings["max_epochs"]
    extra = {"EU, then SS": {"eu_epochs": eu_epochs}, "SS from scratch": {}}
    cells = [
        {
            "seed": seed,
            "model": model,
            "labels": args.share,
            "settings": {**settings, **extra[model]},
        }
        for seed in range(args.seeds)
        for model in MODELS
    ]
    rows = run_cells(
        out_file(args, "weights_carried_over", ".csv"),
        cells,
        lambda cell: continue_or_start(cell, args),
        METRICS,
        args.device,
    )

    curves = {model: values_of(rows, "accuracy", model=model) for model in MODELS}
    print_title(args, f"MNIST, {args.share:.0%} of the labels: accuracy by epoch of SS")
    print("| epoch |", " | ".join(MODELS), "|")
    print("| --- |", " | ".join("---" for _ in MODELS), "|")
    for epoch in range(settings["max_epochs"]):
        figures = []
        for model in MODELS:
            mean, error = mean_and_error([curve[epoch] for curve in curves[model]])
            figures.append(f"{mean:.4f}" + ("" if np.isnan(error) else f" +- {error:.4f}"))
        print(f"| {epoch + 1} |", " | ".join(figures), "|")
    draw(curves, out_file(args, "weights_carried_over", ".png"))


if __name__ == "__main__":
    main()
