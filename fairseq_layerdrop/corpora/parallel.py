"""Parallel text: two files with a sentence a line."""

import functools
import itertools
from pathlib import Path

from .subwords import write_pairs
from .text import CorpusError, read_lines


def read_parallel(stem: Path, source: str, target: str) -> tuple[list[str], list[str]]:
    """Read ``STEM.SOURCE`` and ``STEM.TARGET``, one sentence a line.

    Raises:
        CorpusError: a file is missing or isn't UTF-8, the two differ in length, or a line is empty.
    """
    sides = []
    for lang in (source, target):
        path = Path(f"{stem}.{lang}")
        lines = list(read_lines(path))
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise CorpusError(f"{path}, line {number}: empty")
        sides.append(lines)
    if len(sides[0]) != len(sides[1]):
        raise CorpusError(f"{stem}.{source} has {len(sides[0])} lines, {stem}.{target} has {len(sides[1])}")
    return sides[0], sides[1]


def write_parallel(
    splits: dict[str, tuple[list[str], list[str]]], source: str, target: str, vocabulary: int, out: Path
) -> None:
    """Write parallel text as :func:`~.subwords.write_pairs` says.

    Args:
        splits: source and target sentences of ``train``, ``valid`` and ``test``.
    """
    pairs = {split: functools.partial(zip, *sides) for split, sides in splits.items()}
    write_pairs(pairs, source, target, vocabulary, out, functools.partial(itertools.chain, *splits["train"]))
