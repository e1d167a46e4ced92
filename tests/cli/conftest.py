"""What the tests of several verbs use."""

import sys

import pytest


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
