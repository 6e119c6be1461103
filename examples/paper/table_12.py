"""Table 12: disentanglement on Small-NORB, the betaVAE score by the number of labels.

    python examples/paper/table_12.py --data FOLDER

Four fifths of the 48,600 pairs of images train (about 38,000, as in the paper), of which
some have the labels of all four factors; the last line trains on 1,000 labeled pairs alone.
The score is that of the latent means of the other fifth, in percent. Where FOLDER lacks the
official images, rendered ones take their place; the first column says which. --quick takes
a sixth of the rendered grid where they were not made before.
"""

import numpy as np
from anomalies import CHOSEN
from common import (
    choose_rows,
    estimator_params,
    format_table,
    hide_factors,
    model_settings,
    out_file,
    paper_parser,
    parse_args,
    print_title,
    run_cells,
    values_of,
)
from sklearn.model_selection import train_test_split
from small_norb import small_norb

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier
from sklearn_ssvae.metrics import beta_vae_score

# Score and its standard error, by whether unlabeled rows take part and labels.
PAPER = {
    ("all", 0): (82, 0.7),
    ("all", 100): (76, 1.6),
    ("all", 300): (83, 1.8),
    ("all", 1000): (92, 0.6),
    ("all", 3000): (95, 0.6),
    ("none", 1000): (87, 0.8),
}


def embed_and_score(cell, args, images, factors):
    """Train one model; return the score of its latent means on other rows."""
    seed, n_labeled = cell["seed"], cell["labels"]
    train, test = train_test_split(
        np.arange(len(factors)), train_size=0.8, stratify=factors[:, 0], random_state=seed
    )
    train = train[choose_rows(factors[train, 0], args.limit, seed)]
    params = estimator_params(args, cell)
    if n_labeled:
        y = hide_factors(factors[train], n_labeled, seed)
        if cell["unlabeled"] == "none":
            labeled = y[:, 0] >= 0
            train, y = train[labeled], y[labeled]
        model = SSVAEClassifier(**params).fit(images[train] / np.float32(255), y)
    else:
        model = SSVAEAnomalyDetector(anomaly_score="log_prob", **params).fit(
            images[train] / np.float32(255)
        )
    test = test[: args.test_limit]
    Z = model.transform(images[test] / np.float32(255))
    return {"score": 100 * beta_vae_score(Z, factors[test], random_state=seed)}


def row_name(unlabeled, labels, n_train):
    """Say how many rows trained and had labels, and for which number if not so many."""
    n_labeled = min(labels, n_train)
    n_rows = n_train if unlabeled == "all" else n_labeled
    name = f"{n_rows:,} rows, {n_labeled:,} labeled"
    if labels >= n_train:
        name += f" for {labels:,}" + " alone" * (unlabeled == "none")
    return name


def main():
    parser = paper_parser(__doc__)
    counts = sorted({labels for _, labels in PAPER})
    parser.add_argument("--labels", nargs="+", type=int, choices=counts, default=counts)
    quick = {"limit": 500, "test_limit": 2000}
    args = parse_args(parser, quick=quick, seeds=10)
    if args.data is None or not args.data.is_dir():
        raise SystemExit(
            f"{args.data or 'The folder of the images'} is missing. Name it with --data or "
            "SSVAE_DATA; rendered images are kept there."
        )
    images, factors, _, source = small_norb(args.data, whole=not args.quick)

    wanted = [key for key in PAPER if key[1] in args.labels]
    cells = [
        {
            "images": source,
            "seed": seed,
            "model": "SS" if labels else "EU",
            "unlabeled": unlabeled,
            "labels": labels,
            "settings": model_settings(args, "SS" if labels else "EU", "small_norb", CHOSEN),
        }
        for seed in range(args.seeds)
        for unlabeled, labels in wanted
    ]
    rows = run_cells(
        out_file(args, "table_12", ".csv"),
        cells,
        lambda cell: embed_and_score(cell, args, images, factors),
        ["score"],
        args.device,
    )

    print_title(args, f"Table 12: Small-NORB ({source} images), betaVAE score in percent")
    n_train = args.limit or 8 * len(images) // 10
    table = {}
    for unlabeled, labels in wanted:
        name = row_name(unlabeled, labels, n_train)
        scores = values_of(rows, "score", unlabeled=unlabeled, labels=labels)
        table[f"{source}: {name}"] = [(scores, PAPER[unlabeled, labels])]
    print(format_table("training", ["betaVAE score"], table, ".1f"))


if __name__ == "__main__":
    main()
