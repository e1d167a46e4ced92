"""``fairseq-layerdrop user-dir``."""

from pathlib import Path

HELP = "print the path to give as --user-dir"


def add_arguments(parser) -> None:
    pass


def run(args) -> None:
    print(Path(__file__).resolve().parents[1])
