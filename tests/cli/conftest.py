"""What the tests of several verbs use."""

import sys
from pathlib import Path

import pytest

from tests.commands import train_lm


@pytest.fixture(scope="session")
def lm_checkpoint(lm_data, tmp_path_factory) -> Path:
    """A 6-layer language model trained with the plugin for two updates."""
    out = tmp_path_factory.mktemp("lm")
    train_lm(lm_data, out, 2)
    return out / "checkpoint_last.pt"


@pytest.fixture
def logged(monkeypatch, caplog, capsys):
    """A function that runs a command of fairseq's here and gives what it logs; it saves importing fairseq anew."""

    def run_here(command, *arguments) -> str:
        monkeypatch.setattr(sys, "argv", [command.__module__, *map(str, arguments)])
        caplog.clear()
        capsys.readouterr()
        with caplog.at_level("INFO"), caplog.at_level("INFO", logger="fairseq"):
            command()
        return caplog.text + capsys.readouterr().out

    return run_here
