"""Images decoded over the latent plane, class by class: figures 2 and 3."""

from common import (
    choose_rows,
    estimator_params,
    hide_labels,
    load,
    model_settings,
    out_file,
    paper_parser,
    parse_args,
    positive_int,
)

from sklearn_ssvae import SSVAEClassifier
from sklearn_ssvae.inspection import GenerationGridDisplay


def draw_figure(doc, name, data, titles):
    """Fit the dense SS and draw what it generates.

    Parameters
    ----------
    doc : str
        Docstring of the script.
    name : str
        Name of the picture.
    data : str
        Name of the data set.
    titles : list of str
        Names of the classes.
    """
    parser = paper_parser(doc)
    parser.add_argument(
        "--labels", type=positive_int, help="labels to learn from (default: all)"
    )
    parser.add_argument("--steps", type=positive_int, default=6, help="images a side, a class")
    args = parse_args(parser)

    import matplotlib as mpl
    from PIL import Image

    mpl.use("Agg")
    cell = {"seed": 0, "settings": model_settings(args, "SS", "dense")}
    X, y, _, _ = load(data, args.data)
    rows = choose_rows(y, args.limit, cell["seed"])
    y = hide_labels(y[rows], args.labels or len(rows), cell["seed"])
    clf = SSVAEClassifier(**estimator_params(args, cell), verbose=1).fit(X[rows], y)
    display = GenerationGridDisplay.from_estimator(
        clf, n_steps=args.steps, image_shape=(28, 28)
    )
    for ax, title in zip(display.axes_, titles):
        ax.set_title(title)
    path = out_file(args, name, ".png")
    display.figure_.savefig(path, dpi=100)
    # In grey the file has half the size.
    Image.open(path).convert("L").save(path, optimize=True)
    print(path)
