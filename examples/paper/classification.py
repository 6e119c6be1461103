"""Accuracy and log loss of SS and ES on the test part: tables 3, 4, 7, 8 and 10."""

import numpy as np
from common import (
    choose_rows,
    estimator_params,
    format_table,
    hide_labels,
    load,
    model_settings,
    out_file,
    paper_parser,
    parse_args,
    positive_int,
    print_title,
    run_cells,
    values_of,
)
from sklearn.metrics import log_loss

from sklearn_ssvae import SSVAEClassifier

METRICS = ["accuracy", "log_loss"]
NAMES = {"dense": "dense", "conv": "CNN", "recurrent": "RNN"}


def measure(clf, X, y):
    """Accuracy and log loss of a trained classifier."""
    proba = clf.predict_proba(X)
    return {
        "accuracy": np.mean(clf.classes_[proba.argmax(axis=1)] == y),
        "log_loss": log_loss(y, proba, labels=clf.classes_),
    }


def classify(cell, args, data):
    """Train one classifier; return its metrics on the test part."""
    X_train, y_train, X_test, y_test = load(data, args.data)
    rows = choose_rows(y_train, args.limit, cell["seed"])
    y = hide_labels(y_train[rows], cell["labels"], cell["seed"])
    clf = SSVAEClassifier(**estimator_params(args, cell), shrinkage=0).fit(X_train[rows], y)
    test = choose_rows(y_test, args.test_limit, 0)
    return measure(clf, X_test[test], y_test[test])


def learning_curve(params, X, y, X_test, y_test, init_model=None):
    """Train a classifier epoch by epoch; return its metrics after each, lists."""
    clf = SSVAEClassifier(**{**params, "max_epochs": 1}, warm_start=True, shrinkage=0)
    curves = {name: [] for name in METRICS}
    for epoch in range(params["max_epochs"]):
        clf.fit(X, y, init_model=None if epoch else init_model)
        for name, value in measure(clf, X_test, y_test).items():
            curves[name].append(value)
    return curves


def run_table(
    doc,
    name,
    title,
    data,
    published,
    *,
    seeds,
    epochs,
    es_epochs,
    chosen=None,
    averaged=(),
    quick=None,
):
    """Run a table of classifiers and print it.

    Parameters
    ----------
    doc : str
        Docstring of the script.
    name : str
        Name of the results file.
    title : str
        Title of the table.
    data : str
        Name of the data set.
    published : dict
        Accuracy and log loss of the paper, each with its standard error or None, by
        ``(kind, network, labels)``.
    seeds, epochs, es_epochs : int
        Values of a full run: seeds, epochs of SS (None for the chosen or the preset's) and
        of ES.
    chosen : dict of dict, default=None
        Settings of SS that the paper leaves open, by ``(network, labels)``.
    averaged : tuple of str, default=()
        Networks of which SS and ES are tested with the average of their weights.
    quick : dict, default=None
        Where a quick run differs from the other scripts'.
    """
    networks = list(dict.fromkeys(network for _, network, _ in published))
    counts = list(dict.fromkeys(labels for _, _, labels in published))
    parser = paper_parser(doc)
    parser.add_argument(
        "--es-epochs", type=positive_int, help="epochs of ES, over its labeled rows"
    )
    parser.add_argument("--models", nargs="+", choices=["SS", "ES"], default=["SS", "ES"])
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks)
    parser.add_argument("--labels", nargs="+", type=int, choices=counts, default=counts)
    args = parse_args(parser, quick=quick, seeds=seeds, epochs=epochs, es_epochs=es_epochs)

    def settings_of(kind, network, labels):
        left_open = {"average": network in averaged}
        if kind == "SS" and chosen is not None:
            left_open.update(chosen.get((network, labels), {}))
        return model_settings(args, kind, network, left_open)

    wanted = [
        key
        for key in published
        if key[0] in args.models and key[1] in args.networks and key[2] in args.labels
    ]
    cells = [
        {
            "seed": seed,
            "model": f"{kind} {NAMES[network]}",
            "labels": labels,
            "settings": settings_of(kind, network, labels),
        }
        for seed in range(args.seeds)
        for kind, network, labels in wanted
    ]
    rows = run_cells(
        out_file(args, name, ".csv"),
        cells,
        lambda cell: classify(cell, args, data),
        METRICS,
        args.device,
    )

    print_title(args, title)
    for labels in args.labels:
        table = {}
        for kind, network, of in wanted:
            if of == labels:
                model = f"{kind} {NAMES[network]}"
                table[model] = [
                    (values_of(rows, metric, model=model, labels=labels), figure)
                    for metric, figure in zip(METRICS, published[kind, network, labels])
                ]
        columns = ["accuracy", "log loss"]
        print(format_table(f"{labels:,} labels", columns, table, [".4f", ".3f"]) + "\n")
