"""Reading what fairseq-generate, fairseq-eval-lm and fairseq-validate printed."""

import re
from dataclasses import dataclass
from pathlib import Path

# Lines of a sentence: D- and H- hypotheses, detokenised and tokenised, with their score; T- reference.
_HYPOTHESIS = re.compile(r"D-(\d+)\t[^\t]*\t(.*)")
_TOKENISED = re.compile(r"H-(\d+)\t[^\t]*\t(.*)")
_REFERENCE = re.compile(r"T-(\d+)\t(.*)")
_TRANSLATED = re.compile(r"Translated ([\d,]+) sentences \(([\d,]+) tokens\) in ([\d.]+)s")
_EVALUATED = re.compile(r"Evaluated ([\d,]+) tokens in ([\d.]+)s")
_LOSS = re.compile(r"Loss \(base 2\): ([\d.]+)")
_VALIDATED = re.compile(r"\| loss ([\d.]+)")
_SKIPPED = re.compile(r"([\d,]+) samples have invalid sizes and will be skipped")
_PRUNED = re.compile(r"pruned layers: kept (.*); ([\d,]+) parameters before, ([\d,]+) after")


class LogError(SystemExit):
    """A log that isn't one of a finished run; ends the program with one line."""


@dataclass(frozen=True)
class GenerationLog:
    """A run of fairseq-generate.

    Attributes:
        hypotheses: best hypothesis of each sentence (fairseq's ``D-`` lines), in the order of the data.
        tokenised: the same before fairseq detokenised them (``H-`` lines).
        references: tokenised references (``T-`` lines); none where the data has no target side.
        seconds: time spent generating, without loading.
        tokens: number of tokens generated.
        kept: the plan in words, where ``--prune-layers`` was given.
        parameters: number of the model's parameters, where ``--prune-layers`` was given.
        skipped: number of samples that fairseq left out for their length.
    """

    hypotheses: list[str]
    tokenised: list[str]
    references: list[str]
    seconds: float
    tokens: int
    kept: str | None
    parameters: int | None
    skipped: int = 0


@dataclass(frozen=True)
class LanguageModelLog:
    """A run of fairseq-eval-lm.

    Attributes:
        bits_per_token: cross-entropy in base 2, by token of the model.
        tokens: number of tokens scored.
        seconds: time spent on them, without loading.
        kept: the plan in words, where ``--prune-layers`` was given.
        parameters: number of the model's parameters, where ``--prune-layers`` was given.
        skipped: number of samples that fairseq left out for their length.
    """

    bits_per_token: float
    tokens: int
    seconds: float
    kept: str | None
    parameters: int | None
    skipped: int = 0


@dataclass(frozen=True)
class ValidationLog:
    """A run of fairseq-validate.

    Attributes:
        loss: the criterion's loss, in base 2.
        kept: the plan in words, where ``--prune-layers`` was given.
        parameters: number of the model's parameters, where ``--prune-layers`` was given.
        skipped: number of samples that fairseq left out for their length.
        seconds: None; it doesn't tell.
    """

    loss: float
    kept: str | None
    parameters: int | None
    skipped: int = 0
    seconds: None = None


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def _read(path: Path, errors: str = "strict") -> str:
    if not path.is_file():
        raise LogError(f"no such log: {path}")
    try:
        return path.read_bytes().decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise LogError(f"{path} is not UTF-8") from error


def _skipped(text: str) -> int:
    skipped = _SKIPPED.search(text)
    return _whole(skipped[1]) if skipped else 0


def _pruned(text: str) -> tuple[str | None, int | None]:
    """The plan in words and the number of parameters that it leaves."""
    pruned = _PRUNED.search(text)
    return (pruned[1], _whole(pruned[3])) if pruned else (None, None)


def read_generation_log(path) -> GenerationLog:
    """Read a file with the standard output and error of fairseq-generate.

    Raises:
        LogError: the file is missing, the run didn't finish, or the number of hypotheses isn't what it says.
    """
    path = Path(path)
    text = _read(path)
    timing = _TRANSLATED.search(text)
    if timing is None:
        raise LogError(f"{path} is no log of a finished fairseq-generate, with all it prints: > LOG 2>&1")
    lines = text.split("\n")  # only line feeds end fairseq's lines; a hypothesis may hold other separators

    def found(pattern):
        texts: dict[int, str] = {}
        for match in filter(None, map(pattern.fullmatch, lines)):
            texts.setdefault(int(match[1]), match[2])  # the best of an n-best list comes first
        return [texts[i] for i in sorted(texts)]

    hypotheses = found(_HYPOTHESIS)
    if len(hypotheses) != _whole(timing[1]):
        raise LogError(f"{path} has {len(hypotheses)} hypotheses, but tells of {timing[1]} sentences")
    kept, parameters = _pruned(text)
    return GenerationLog(
        hypotheses=hypotheses,
        tokenised=found(_TOKENISED),
        references=found(_REFERENCE),
        seconds=float(timing[3]),
        tokens=_whole(timing[2]),
        kept=kept,
        parameters=parameters,
        skipped=_skipped(text),
    )


def read_eval_lm_log(path) -> LanguageModelLog:
    """Read a file with the output of fairseq-eval-lm.

    Raises:
        LogError: the file is missing or the run didn't finish.
    """
    path = Path(path)
    text = _read(path, errors="replace")
    loss, evaluated = _LOSS.search(text), _EVALUATED.search(text)
    if not loss or not evaluated:
        raise LogError(f"{path} is no log of a finished fairseq-eval-lm, with all it prints: > LOG 2>&1")
    return LanguageModelLog(float(loss[1]), _whole(evaluated[1]), float(evaluated[2]), *_pruned(text), _skipped(text))


def read_validation_log(path) -> ValidationLog:
    """Read a file with the output of fairseq-validate.

    Raises:
        LogError: the file is missing or the run didn't finish.
    """
    path = Path(path)
    text = _read(path, errors="replace")
    loss = _VALIDATED.search(text)
    if not loss:
        raise LogError(f"{path} is no log of a finished fairseq-validate, with all it prints: > LOG 2>&1")
    return ValidationLog(float(loss[1]), *_pruned(text), _skipped(text))
