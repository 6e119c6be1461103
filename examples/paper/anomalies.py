"""ROC AUC of SS and EU on a class that training lacks: tables 5, 6, 9 and 11.

With ``--held-out`` the normal rows are others than the tables', training rows left out. The
anomalous rows are not: they are those of the training part, on which the tables are scored
as well, with those of the test part.
"""

import numpy as np
from common import (
    anomaly_auc,
    choose_rows,
    estimator_params,
    format_table,
    hide_labels,
    load,
    load_held_out,
    model_settings,
    out_file,
    paper_parser,
    parse_args,
    print_title,
    run_cells,
    values_of,
)

from sklearn_ssvae import SSVAEAnomalyDetector

# The paper does not name it; ten epochs of the detector's larger batches are too few.
CHOSEN = {"batch_size": 128}


def leave_class_out(data, anomaly, limit, test_limit, seed):
    """Split a data set for a class that counts as anomalous.

    Parameters
    ----------
    data : list of ndarray
        X_train, y_train, X_test, y_test.
    anomaly : int
        The class.
    limit, test_limit : int or None
        Rows of training, and of normal and anomalous rows of validation, at most.
    seed : int
        Choice of the rows of a limited training.

    Returns
    -------
    X, y : ndarray
        Normal rows of the training part.
    X_valid : ndarray
        Normal rows of the test part and all anomalous rows of both parts. Where training
        rows stand in for the test part, these are the anomalous rows of the training part.
    is_anomaly : ndarray of bool
        Which of them are anomalous.
    """
    X_train, y_train, X_test, y_test = data
    normal = np.flatnonzero(y_train != anomaly)
    normal = normal[choose_rows(y_train[normal], limit, seed)]
    held_out = X_test[y_test != anomaly][:test_limit]
    anomalies = np.concatenate([X_train[y_train == anomaly], X_test[y_test == anomaly]])
    anomalies = anomalies[:test_limit]
    is_anomaly = np.repeat([False, True], [len(held_out), len(anomalies)])
    X_valid = np.concatenate([held_out, anomalies])
    return X_train[normal], y_train[normal], X_valid, is_anomaly


def detect(cell, args, data):
    """Train one detector without a class; return its AUC."""
    if args.held_out:
        parts = load_held_out(data, args.data, cell["seed"])
    else:
        parts = load(data, args.data)
    X, y, X_valid, is_anomaly = leave_class_out(
        parts, cell["anomaly"], args.limit, args.test_limit, cell["seed"]
    )
    share = float(cell["labels"].rstrip("%")) / 100
    y = hide_labels(y, round(share * len(y)), cell["seed"]) if share else None
    det = SSVAEAnomalyDetector(anomaly_score="log_prob", **estimator_params(args, cell)).fit(
        X, y
    )
    return {"auc": anomaly_auc(det.score_samples(X_valid), is_anomaly)}


def detector_parser(doc, anomalies):
    """Make a parser with the choice of anomalous classes."""
    parser = paper_parser(doc)
    parser.add_argument("--classes", nargs="+", type=int, choices=anomalies, default=anomalies)
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="normal training rows left out in place of the test part's, and the anomalous "
        "rows of the training part, which the table is scored on too; results in "
        "*_held_out.*",
    )
    return parser


def run_detectors(args, name, data, preset, systems, chosen=None):
    """Run detectors with each class left out.

    Parameters
    ----------
    args : Namespace
        Arguments of `detector_parser`.
    name : str
        Name of the results file.
    data : str
        Name of the data set.
    preset : str
        A name of `paper_params`.
    systems : list of tuple of str
        Each a model, "SS" or "EU", and the share of labels among the normal rows.
    chosen : dict, default=None
        Further settings that the paper leaves open.

    Returns
    -------
    rows : list of dict
        One for each seed, class and system.
    """
    cells = [
        {
            "seed": seed,
            "model": kind,
            "labels": share,
            "anomaly": anomaly,
            "settings": model_settings(args, kind, preset, {**CHOSEN, **(chosen or {})}),
        }
        for seed in range(args.seeds)
        for anomaly in args.classes
        for kind, share in systems
    ]
    return run_cells(
        out_file(args, name, ".csv"),
        cells,
        lambda cell: detect(cell, args, data),
        ["auc"],
        args.device,
    )


def mean_over_classes(rows, published, model, classes):
    """Return the mean over the classes, by seed; and the paper's with its error."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    ours = [np.mean(values_of(rows, "auc", model=model, seed=seed)) for seed in seeds]
    means, errors = np.transpose([published[model][anomaly] for anomaly in classes])
    return ours, (round(means.mean(), 3), round(np.hypot.reduce(errors) / len(errors), 4))


def run_table(doc, name, title, data, names, published, *, seeds, chosen=None):
    """Run a table of SS and EU by anomalous class and print it.

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
    names : list of str
        Names of the classes.
    published : dict of list of tuple
        AUC of the paper and its standard error, by model and class.
    seeds : int
        Seeds of a full run.
    chosen : dict, default=None
        Further settings that the paper leaves open.
    """
    parser = detector_parser(doc, range(len(names)))
    models = list(published)
    parser.add_argument("--models", nargs="+", choices=models, default=models)
    args = parse_args(parser, seeds=seeds)
    published = {model: published[model] for model in args.models}
    systems = [(model, "100%" if model == "SS" else "0%") for model in published]
    rows = run_detectors(args, name, data, "dense", systems, chosen)

    print_title(args, title)
    table = {
        names[anomaly]: [
            (values_of(rows, "auc", model=model, anomaly=anomaly), figures[anomaly])
            for model, figures in published.items()
        ]
        for anomaly in args.classes
    }
    table["mean"] = [
        mean_over_classes(rows, published, model, args.classes) for model in published
    ]
    columns = [f"AUC of {model}" for model in published]
    print(format_table("anomalous class", columns, table))
