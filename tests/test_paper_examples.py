"""The scripts of the paper's tables: cells that resume, labels, scores, printing."""

import csv
import importlib
import math
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sklearn_ssvae import SSVAEAnomalyDetector, SSVAEClassifier

FOLDER = Path(__file__).parent.parent / "examples" / "paper"
SCRIPTS = sorted(
    path.stem for path in FOLDER.glob("*.py") if "def main():" in path.read_text()
)
RESULTS = FOLDER / "results"
COMMANDS = [
    line.split("examples/paper/")[1]
    for line in (RESULTS / "README.md").read_text().splitlines()
    if line.startswith("    python examples/paper/") and "figure_" not in line
]
CELLS = [
    {"seed": seed, "model": model, "labels": 100, "settings": {"alpha": 1.0, "hidden": (8, 8)}}
    for seed in range(2)
    for model in ("SS", "ES")
]


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    """Let the scripts import their neighbors, as they do when they are run."""
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture
def common():
    return importlib.import_module("common")


def test_the_module_of_the_papers_folder_comes_first(monkeypatch):
    for name in ("common", "anomalies"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = [importlib.import_module(name) for name in ("common", "anomalies")]
    assert [Path(module.__file__).parent for module in modules] == [FOLDER, FOLDER]


@pytest.fixture
def run_cells(common, tmp_path):
    """Run cells with a counter in place of training; return the rows and what was run."""

    def run(cells, path=tmp_path / "table.csv"):
        ran = []

        def train(cell):
            ran.append(cell)
            return {"accuracy": 0.5 + cell["seed"], "by_epoch": [0.25, 0.5]}

        return common.run_cells(path, cells, train, ["accuracy", "by_epoch"], "cpu"), ran

    return run


def test_a_cell_has_its_row(run_cells, tmp_path):
    rows, ran = run_cells(CELLS)
    assert ran == CELLS
    assert rows == [
        {**cell, "accuracy": 0.5 + cell["seed"], "by_epoch": [0.25, 0.5]} for cell in CELLS
    ]
    with (tmp_path / "table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == 4
    assert written[3]["model"] == "ES"
    assert written[3]["settings"] == '{"alpha":1.0,"hidden":[8,8]}'
    assert float(written[3]["accuracy"]) == 1.5
    assert written[3]["device"] == "cpu"


def test_finished_cells_are_not_run_again(run_cells):
    first, _ = run_cells(CELLS[:3])
    rows, ran = run_cells(CELLS)
    assert ran == CELLS[3:]
    assert rows[:3] == first


def test_cells_with_other_settings_are_run(run_cells):
    run_cells(CELLS)
    changed = [{**CELLS[0], "settings": {"alpha": 2.0, "hidden": (8, 8)}}, *CELLS[1:]]
    _, ran = run_cells(changed)
    assert ran == changed[:1]


def test_an_infinite_alpha_is_recognised(run_cells):
    cell = {**CELLS[0], "settings": {"alpha": math.inf}}
    run_cells([cell])
    assert run_cells([cell])[1] == []


@pytest.mark.parametrize("lost", [1, 40, 75])
def test_a_row_that_was_half_written_is_run_again(run_cells, common, tmp_path, lost):
    first, _ = run_cells(CELLS)
    path = tmp_path / "table.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    assert len(common.read_rows(path)) == 3
    rows, ran = run_cells(CELLS)
    assert ran == CELLS[3:]
    assert rows == first
    assert len(path.read_bytes().splitlines()) == 5


def test_a_half_written_header_is_written_again(run_cells, tmp_path):
    (tmp_path / "table.csv").write_text("seed,mod")
    _, ran = run_cells(CELLS)
    assert ran == CELLS
    assert run_cells(CELLS)[1] == []


def test_options_that_leave_no_model_are_named(run_cells, common, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="no model"):
        run_cells([])
    for option in ("--seeds", "--limit", "--test-limit", "--epochs", "--batch-size"):
        monkeypatch.setattr(sys, "argv", ["table", option, "0"])
        with pytest.raises(SystemExit):
            common.parse_args(common.paper_parser(""))
        assert f"{option}: must be 1 or more. Got 0." in capsys.readouterr().err


def test_a_file_with_other_columns_is_left_alone(run_cells, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("seed,score\n0,1\n")
    with pytest.raises(SystemExit, match="other columns"):
        run_cells(CELLS)
    assert path.read_text() == "seed,score\n0,1\n"


def test_rows_are_kept_when_a_later_cell_fails(common, tmp_path):
    def train(cell):
        if cell["model"] == "ES":
            raise ValueError("diverged")
        return {"accuracy": 0.5}

    path = tmp_path / "table.csv"
    with pytest.raises(ValueError, match="diverged"):
        common.run_cells(path, CELLS, train, ["accuracy"], "cpu")
    assert [row["model"] for row in common.read_rows(path)] == ["SS"]


def test_a_quick_run_has_its_own_file(common, tmp_path):
    files = [
        common.out_file(Namespace(out=tmp_path, quick=quick), "table_03", ".csv")
        for quick in (True, False)
    ]
    assert [file.name for file in files] == ["table_03_quick.csv", "table_03.csv"]


def test_the_command_line_wins_over_quick_and_full_values(common, monkeypatch):
    def parse(*argv):
        monkeypatch.setattr(sys, "argv", ["table", *argv])
        args = common.parse_args(common.paper_parser(""), seeds=10, epochs=20)
        return args.seeds, args.epochs, args.limit

    assert parse() == (10, 20, None)
    assert parse("--quick") == (1, 2, 2000)
    assert parse("--quick", "--seeds", "3", "--limit", "50") == (3, 2, 50)


def test_settings_hold_what_the_model_reads(common, monkeypatch):
    preset = {"alpha": 1.0, "beta": 4.0, "labeled_fraction": 0.5, "max_epochs": 10}
    monkeypatch.setattr(common, "paper_params", lambda name: preset)
    monkeypatch.setattr(sys, "argv", ["table", "--beta", "2", "--limit", "50"])
    args = common.parse_args(common.paper_parser(""))
    args.es_epochs = 20
    ss, es, eu = (common.model_settings(args, kind, "dense") for kind in ("SS", "ES", "EU"))
    assert ss == {**preset, "beta": 2.0, "limit": 50}
    assert es == {"alpha": math.inf, "max_epochs": 20, "limit": 50}
    assert eu == {"beta": 2.0, "max_epochs": 10, "limit": 50}
    params = common.estimator_params(args, {"seed": 3, "settings": ss})
    assert params == {**preset, "beta": 2.0, "device": "auto", "random_state": 3}


@pytest.fixture
def settings_of_table(monkeypatch, tmp_path):
    """Collect the settings of a table's models, by name, in place of training them."""

    def collect(name, *argv):
        settings = {}

        def run_cells(path, cells, *_):
            settings.update({cell["model"]: cell["settings"] for cell in cells})
            return [{**cell, "accuracy": 0.5, "log_loss": 0.5} for cell in cells]

        monkeypatch.setattr(importlib.import_module("classification"), "run_cells", run_cells)
        folders = ["--data", str(tmp_path), "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *folders, *argv])
        importlib.import_module(name).main()
        return settings

    return collect


def test_both_models_have_the_average_of_their_network(settings_of_table):
    settings = settings_of_table("table_08")
    averages = {model: values["average"] for model, values in settings.items()}
    assert averages == {"SS dense": False, "ES dense": False, "SS CNN": True, "ES CNN": True}


def test_only_ss_has_the_chosen_settings(settings_of_table):
    settings = settings_of_table("table_03", "--labels", "100")
    table = importlib.import_module("table_03")
    chosen = table.CHOSEN["dense", 100]
    assert settings["SS dense"].items() >= chosen.items()
    assert settings["ES dense"]["max_epochs"] == 20 != chosen["max_epochs"]


@pytest.mark.parametrize(
    ("argv", "network"),
    [
        (["--data-set", "uci_har"], "recurrent"),
        (["--data-set", "fashion_mnist"], "dense"),
        (["--data-set", "fashion_mnist", "--network", "conv"], "conv"),
    ],
)
def test_rows_are_left_out_with_the_network_of_the_data_set(
    monkeypatch, tmp_path, argv, network
):
    held_out = importlib.import_module("held_out")
    networks = []

    def run_cells(path, cells, *_):
        networks.extend(cell["settings"]["network"] for cell in cells)
        return [{**cell, "accuracy": [0.5], "log_loss": [0.5]} for cell in cells]

    monkeypatch.setattr(held_out, "run_cells", run_cells)
    monkeypatch.setattr(sys, "argv", ["held_out.py", "--out", str(tmp_path), *argv])
    held_out.main()
    assert networks == [network] * 2


@pytest.mark.parametrize(
    ("argv", "drawn"),
    [
        ([], ["table_06.png"]),
        (["--precision", "bfloat16"], []),
        (["--classes", "7"], []),
        (["--held-out"], []),
        (["--quick"], ["table_06_quick.png"]),
    ],
)
def test_only_the_whole_table_is_drawn(monkeypatch, tmp_path, argv, drawn):
    table_06 = importlib.import_module("table_06")
    files = []

    def run_detectors(args, *_):
        return [
            {"labels": share, "anomaly": digit, "auc": 0.5}
            for share in args.labels
            for digit in args.classes
        ]

    monkeypatch.setattr(table_06, "run_detectors", run_detectors)
    monkeypatch.setattr(table_06, "draw", lambda table, digits, path: files.append(path.name))
    monkeypatch.setattr(sys, "argv", ["table_06.py", "--out", str(tmp_path), *argv])
    table_06.main()
    assert files == drawn


def test_a_row_of_table_12_has_no_more_labels_than_rows(monkeypatch, tmp_path, capsys):
    table_12 = importlib.import_module("table_12")

    def small_norb(folder, *, whole):
        assert not whole
        return np.zeros((1000, 1)), np.zeros((1000, 4)), None, "few rendered"

    def run_cells(path, cells, *_):
        return [{**cell, "score": float(i)} for i, cell in enumerate(cells)]

    monkeypatch.setattr(table_12, "small_norb", small_norb)
    monkeypatch.setattr(table_12, "run_cells", run_cells)
    folders = ["--data", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["table_12.py", *folders, "--quick"])
    table_12.main()
    out = capsys.readouterr().out
    names = [line.split("|")[1].strip() for line in out.splitlines() if "labeled" in line]
    assert names == [
        "few rendered: 500 rows, 0 labeled",
        "few rendered: 500 rows, 100 labeled",
        "few rendered: 500 rows, 300 labeled",
        "few rendered: 500 rows, 500 labeled for 1,000",
        "few rendered: 500 rows, 500 labeled for 3,000",
        "few rendered: 500 rows, 500 labeled for 1,000 alone",
    ]
    assert table_12.row_name("none", 1000, 4000) == "1,000 rows, 1,000 labeled"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--data", "no_such_folder"], "no_such_folder is missing"),
        (["--labels", "500"], "2"),  # argparse's status
    ],
)
def test_table_12_renders_nothing_for_a_wrong_command(monkeypatch, tmp_path, argv, message):
    table_12 = importlib.import_module("table_12")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table_12, "small_norb", None)
    monkeypatch.setattr(sys, "argv", ["table_12.py", *argv])
    with pytest.raises(SystemExit, match=message):
        table_12.main()
    assert not list(tmp_path.iterdir())


def test_labels_are_hidden_evenly_and_by_seed(common):
    y = np.repeat(np.arange(10), 60)
    y_partly = common.hide_labels(y, 100, 0)
    labeled = y_partly >= 0
    np.testing.assert_array_equal(np.bincount(y_partly[labeled]), 10)
    np.testing.assert_array_equal(y_partly[labeled], y[labeled])
    np.testing.assert_array_equal(y_partly, common.hide_labels(y, 100, 0))
    assert (y_partly != common.hide_labels(y, 100, 1)).any()
    np.testing.assert_array_equal(common.hide_labels(y, 600, 0), y)


def test_rows_of_a_limited_run_are_drawn_evenly(common):
    y = np.repeat([1, 2, 3], [30, 60, 90])
    rows = common.choose_rows(y, 30, 0)
    np.testing.assert_array_equal(np.bincount(y[rows]), [0, 5, 10, 15])
    np.testing.assert_array_equal(common.choose_rows(y, None, 0), np.arange(180))


def test_a_row_keeps_all_its_factors_or_none(common):
    factors = np.random.RandomState(0).randint(5, size=(200, 4))
    y = common.hide_factors(factors, 20, 0)
    labeled = y[:, 0] >= 0
    assert labeled.sum() == 20
    np.testing.assert_array_equal(y[labeled], factors[labeled])
    assert (y[~labeled] == -1).all()


def test_series_have_gyroscope_and_gravity_as_the_papers_six_channels(common, tmp_path):
    X = np.broadcast_to(np.arange(9.0), (4, 128, 9))
    y = np.arange(1, 5)
    np.savez(tmp_path / "uci_har.npz", X_train=X, y_train=y, X_test=X, y_test=y)
    X_train, _, X_test, _ = common.load("uci_har", tmp_path)
    for part in (X_train, X_test):
        np.testing.assert_array_equal(part[0, 0], [3, 4, 5, 6, 7, 8])


def test_improbable_rows_are_the_anomalies(common):
    assert common.anomaly_auc(np.array([-1.0, -2, -30, -40]), [False, False, True, True]) == 1
    assert (
        common.anomaly_auc(np.array([-30.0, -2, -1, -40]), [False, False, True, True]) == 0.5
    )


def test_a_class_left_out_is_held_out_with_the_normal_test_rows():
    anomalies = importlib.import_module("anomalies")
    y_train, y_test = np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2], 10)
    X_train, X_test = np.arange(60), 100 + np.arange(30)
    data = [X_train, y_train, X_test, y_test]
    X, y, X_valid, is_anomaly = anomalies.leave_class_out(data, 1, None, None, 0)
    np.testing.assert_array_equal(X, X_train[y_train != 1])
    np.testing.assert_array_equal(y, y_train[y_train != 1])
    np.testing.assert_array_equal(X_valid[~is_anomaly], X_test[y_test != 1])
    everything = np.concatenate([X_train[y_train == 1], X_test[y_test == 1]])
    np.testing.assert_array_equal(X_valid[is_anomaly], everything)


@pytest.mark.parametrize("subjects", [None, np.arange(60) % 6])
def test_the_rows_that_stand_in_for_the_test_part_are_training_rows(
    common, tmp_path, subjects
):
    X, y = np.arange(60.0), np.repeat([0, 1, 2], 20)
    data = {"X_train": X[:, None, None] * np.ones(9), "y_train": y, "X_test": X, "y_test": y}
    groups = {} if subjects is None else {"subject_train": subjects}
    np.savez(tmp_path / "series.npz", **{**data, "X_test": data["X_train"] + 100}, **groups)
    X_train, y_train, X_test, y_test = common.load_held_out("series", tmp_path, 0)
    train, test = (part[:, 0, 0].astype(int) for part in (X_train, X_test))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), X)
    np.testing.assert_array_equal(y_train, y[train])
    np.testing.assert_array_equal(y_test, y[test])
    if subjects is None:
        assert len(test) == 10
    else:
        assert len(test) == 20
        assert not set(subjects[train]) & set(subjects[test])
    args = Namespace(out=Path("."), quick=False, held_out=True)
    assert common.out_file(args, "table_09", ".csv").name == "table_09_held_out.csv"


def test_the_mean_over_classes_is_taken_by_seed():
    anomalies = importlib.import_module("anomalies")
    auc = {(0, 0): 0.5, (0, 1): 0.7, (1, 0): 0.4, (1, 1): 1.0}
    rows = [
        {"seed": seed, "model": "SS", "anomaly": anomaly, "auc": value}
        for (seed, anomaly), value in auc.items()
    ]
    published = {"SS": [(0.5, 0.03), (0.6, 0.04)]}
    ours, theirs = anomalies.mean_over_classes(rows, published, "SS", [0, 1])
    assert ours == pytest.approx([0.6, 0.7])
    assert theirs == pytest.approx((0.55, 0.025))


def test_differences_are_in_combined_standard_errors(common):
    values = [0.80, 0.82, 0.84]  # mean 0.82, standard deviation 0.02
    error = 0.02 / math.sqrt(3)
    assert common.mean_and_error(values) == pytest.approx((0.82, error))
    apart = common.standard_errors_apart(values, (0.80, 0.01))
    assert apart == pytest.approx(0.02 / math.sqrt(error**2 + 0.01**2))
    # A single published run is as uncertain as one of ours.
    apart = common.standard_errors_apart(values, (0.80, None))
    assert apart == pytest.approx(0.02 / math.sqrt(error**2 + 0.02**2))
    assert math.isnan(common.standard_errors_apart([0.8], (0.8, 0.01)))


def test_a_table_has_ours_beside_the_papers(common):
    text = common.format_table(
        "100 labels",
        ["accuracy", "log loss"],
        {
            "SS": [([0.80, 0.82, 0.84], (0.80, 0.01)), ([0.5], (0.6, None))],
            "ES": [([], (0.70, 0.01)), ([], (0.9, 0.1))],
        },
        [".4f", ".2f"],
    )
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
    ]
    assert cells[0][:4] == ["100 labels", "accuracy, ours", "paper", "diff/SE"]
    assert cells[2] == ["SS", "0.8200 +- 0.0115", "0.8 +- 0.01", "+1.3", "0.50", "0.6", "-"]
    assert cells[3] == ["ES", "-", "0.7 +- 0.01", "-", "-", "0.9 +- 0.1", "-"]
    assert len({len(line) for line in text.splitlines()}) == 1


@pytest.mark.parametrize("alpha", [1.0, math.inf])
def test_a_learning_curve_is_that_of_fits_of_as_many_epochs(alpha):
    classification = importlib.import_module("classification")
    X, y = load_digits(return_X_y=True)
    X = X / 16
    labels = np.where(np.arange(len(y)) < 100, y, -1)
    params = {"hidden_layer_sizes": (32,), "alpha": alpha, "average": True, "random_state": 0}
    curves = classification.learning_curve({**params, "max_epochs": 3}, X, labels, X, y)
    fits = [
        SSVAEClassifier(**params, max_epochs=epochs).fit(X, labels) for epochs in (1, 2, 3)
    ]
    for name in classification.METRICS:
        alone = [classification.measure(clf, X, y)[name] for clf in fits]
        assert curves[name] == pytest.approx(alone)
        assert len(set(curves[name])) == 3


def test_there_is_a_script_for_every_table_and_figure():
    tables = [f"table_{number:02d}" for number in range(3, 13)]
    figures = [f"figure_{number:02d}" for number in range(2, 5)]
    assert {*tables, *figures, "weights_carried_over"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_does(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(name).main()
    assert end.value.code == 0
    assert f"python examples/paper/{name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_results_prints_their_table_from_what_is_finished(
    command, monkeypatch, tmp_path, capsys
):
    def fit(self, *args, **kwargs):
        pytest.fail(f"{command} trains {self} again")

    for estimator in (SSVAEClassifier, SSVAEAnomalyDetector):
        monkeypatch.setattr(estimator, "fit", fit)
    pairs = np.empty((48_600, 1)), None, None, "rendered"
    table_12 = importlib.import_module("table_12")
    monkeypatch.setattr(table_12, "small_norb", lambda folder, whole: pairs)
    out = shutil.copytree(RESULTS, tmp_path / "results")
    name, *argv = command.replace("FOLDER", str(tmp_path)).split()
    monkeypatch.setattr(sys, "argv", [name, *argv, "--out", str(out)])
    importlib.import_module(name.removesuffix(".py")).main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    assert len(printed) > 2
    assert set(printed) <= set((RESULTS / "README.md").read_text().splitlines())
