"""Reading what fairseq-generate printed."""

import re
from dataclasses import dataclass
from pathlib import Path

_HYPOTHESIS = re.compile(r"D-(\d+)\t[^\t]*\t(.*)")
_TIMING = re.compile(r"Translated ([\d,]+) sentences \(([\d,]+) tokens\) in ([\d.]+)s")
_PRUNED = re.compile(r"pruned layers: kept (.*); ([\d,]+) parameters before, ([\d,]+) after")


class LogError(SystemExit):
    """A log that isn't one of a finished fairseq-generate; ends the program with one line."""


@dataclass(frozen=True)
class GenerationLog:
    """A run of fairseq-generate.

    Attributes:
        hypotheses: best hypothesis of each sentence (fairseq's ``D-`` lines), in the order of the data.
        seconds: time spent generating, without loading.
        tokens: number of tokens generated.
        kept: the plan in words, where ``--prune-layers`` was given.
        parameters: number of the model's parameters, where ``--prune-layers`` was given.
    """

    hypotheses: list[str]
    seconds: float
    tokens: int
    kept: str | None
    parameters: int | None


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def read_generation_log(path) -> GenerationLog:
    """Read a file with the standard output and error of fairseq-generate.

    Raises:
        LogError: the file is missing, the run didn't finish, or the number of hypotheses isn't what it says.
    """
    path = Path(path)
    if not path.is_file():
        raise LogError(f"no such log: {path}")
    text = path.read_bytes().decode("utf-8")
    timing = _TIMING.search(text)
    if timing is None:
        raise LogError(f"{path} is no log of a finished fairseq-generate")
    # Only line feeds end fairseq's lines; a hypothesis may hold other separators.
    found = {int(m[1]): m[2] for m in map(_HYPOTHESIS.fullmatch, text.split("\n")) if m}
    if len(found) != _whole(timing[1]):
        raise LogError(f"{path} has {len(found)} hypotheses, but tells of {timing[1]} sentences")
    pruned = _PRUNED.search(text)
    return GenerationLog(
        hypotheses=[found[i] for i in sorted(found)],
        seconds=float(timing[3]),
        tokens=_whole(timing[2]),
        kept=pruned[1] if pruned else None,
        parameters=_whole(pruned[3]) if pruned else None,
    )
