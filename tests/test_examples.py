"""The examples run as they are."""

import importlib
import sys
from functools import partial
from pathlib import Path

from sklearn_ssvae import SSVAEClassifier

FOLDER = Path(__file__).parent.parent / "examples"


def test_two_moons_prints_its_table_and_draws_its_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    two_moons = importlib.import_module("two_moons")
    monkeypatch.setattr(two_moons, "SSVAEClassifier", partial(SSVAEClassifier, max_epochs=2))
    monkeypatch.setattr(sys, "argv", ["two_moons.py", "--seeds", "1", "--out", str(tmp_path)])
    two_moons.main()
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in two_moons.MODELS)
    assert (tmp_path / "two_moons.png").read_bytes().startswith(b"\x89PNG")
