"""The package keeps its own rules."""

import ast
import re
from pathlib import Path

import pytest
from numpydoc.validate import validate

import sklearn_ssvae
import sklearn_ssvae.inspection
import sklearn_ssvae.metrics
import sklearn_ssvae.model_selection
import sklearn_ssvae.networks

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sklearn_ssvae"

FLOORS = {
    "_labels": 0,
    "_data": 0,
    "_presets": 0,
    "networks": 1,
    "_augmentation": 1,
    "_likelihoods": 1,
    "_priors": 1,
    "_loss": 1,
    "_batching": 1,
    "_module": 2,
    "_defaults": 2,
    "_net": 3,
    "_scores": 3,
    "_base": 4,
    "_classifier": 5,
    "_anomaly": 5,
    "model_selection": 5,
    "inspection": 5,
    "metrics": 5,
    "__init__": 6,
}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name


def test_every_file_has_its_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(FLOORS)


@pytest.mark.parametrize("name", FLOORS)
def test_imports_go_down_the_floors_only(name):
    for level, module in _imports(PACKAGE / f"{name}.py"):
        if level:
            assert FLOORS[module] < FLOORS[name], module


@pytest.mark.parametrize("name", [name for name, floor in FLOORS.items() if 0 < floor < 4])
def test_the_torch_floors_know_nothing_of_scikit_learn(name):
    modules = {module.split(".")[0] for _, module in _imports(PACKAGE / f"{name}.py")}
    assert "sklearn" not in modules


def _documented_objects():
    for module in (
        sklearn_ssvae,
        sklearn_ssvae.inspection,
        sklearn_ssvae.metrics,
        sklearn_ssvae.model_selection,
        sklearn_ssvae.networks,
    ):
        for name in module.__all__:
            path = f"{module.__name__}.{name}"
            yield path
            thing = getattr(module, name)
            if isinstance(thing, type):
                # The forward of a torch module is described with its class.
                for method in set(dir(thing)) - {"forward"}:
                    function = getattr(thing, method, None)
                    home = getattr(function, "__module__", None) or ""
                    if home.startswith("sklearn_ssvae") and not method.startswith("_"):
                        yield f"{path}.{method}"


# What numpydoc would have beyond scikit-learn's own habits.
NOT_REQUIRED = {
    "ES01",  # no extended summary
    "EX01",  # no examples
    "GL01",  # text starts on the line of the quotes
    "RT02",  # named return values
    "RT03",  # return value without capital letter
    "SA01",  # no See Also
    "SA04",  # See Also without description
    "SS06",  # summary of more than one line
}


@pytest.mark.parametrize("path", sorted(set(_documented_objects())))
def test_docstrings_are_numpydoc(path):
    errors = [error for error in validate(path)["errors"] if error[0] not in NOT_REQUIRED]
    assert not errors


def test_the_code_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    namespace = {}
    for block in blocks:
        quick = block.replace("random_state=0", "random_state=0, max_epochs=10")
        assert quick != block
        exec(quick, namespace)
    assert namespace["clf"].score(namespace["X"], namespace["y_true"]) > 0.8


def test_the_constraints_pin_every_core_dependency():
    pins = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    core = {"torch", "scikit-learn", "numpy", "scipy", "skorch", "joblib"}
    assert core <= set(pins)
