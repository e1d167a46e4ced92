"""Reading what fairseq-generate, fairseq-eval-lm and fairseq-validate printed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import UserError
from ..base.files import StrPath

# Lines of a sentence: D- and H- hypotheses, detokenised and tokenised, with their score; T- reference.
_HYPOTHESIS = re.compile(r"D-(\d+)\t[^\t]*\t(.*)")
_TOKENISED = re.compile(r"H-(\d+)\t[^\t]*\t(.*)")
_REFERENCE = re.compile(r"T-(\d+)\t(.*)")
_TRANSLATED = re.compile(r"Translated ([\d,]+) sentences \(([\d,]+) tokens\) in ([\d.]+)s")
# Of --results-path's file: every line of a sentence, the last one of it, and the score, where there are references.
_OF_SENTENCE = re.compile(r"[A-Z]-\d+(_\d+)?\t")
_LAST_OF_SENTENCE = re.compile(r"[PAIE]-")
_SCORED = re.compile(r"^Generate .* with beam=\d+: ", re.MULTILINE)
_EVALUATED = re.compile(r"Evaluated ([\d,]+) tokens in ([\d.]+)s")
_LOSS = re.compile(r"Loss \(base 2\): ([\d.]+)")
_VALIDATED = re.compile(r"\| loss ([\d.]+)")
_SKIPPED = re.compile(r"([\d,]+) samples have invalid sizes and will be skipped")
_SAMPLES = re.compile(r"fairseq(?:\.tasks\.\w+|_cli\.eval_lm)\b.* ([\d,]+) examples$", re.MULTILINE)
_SETTINGS = re.compile(r"\{'_name': None, 'common': .*")
# What a pruned model tells of itself when it is loaded; up to version 0.1 in words alone.
_PRUNED = re.compile(r"pruned layers as JSON: (\{.*\})")
_PRUNED_IN_WORDS = re.compile(r"pruned layers: kept (.*); [\d,]+ parameters before, ([\d,]+) after")
_DEPTHS_IN_WORDS = re.compile(r"(\w+) (\d+) of (\d+) layers")


class LogError(UserError):
    """A log that isn't one of a finished run over all of the data."""


@dataclass(frozen=True)
class Pruning:
    """What ``--prune-layers`` left of a model.

    Attributes:
        kept: the plan in words.
        depths: for each stack how many layers are kept, and of how many.
        parameters: number of the pruned model's parameters.
    """

    kept: str
    depths: dict[str, tuple[int, int]]
    parameters: int


@dataclass(frozen=True)
class GenerationLog:
    """A run of fairseq-generate.

    Attributes:
        hypotheses: best hypothesis of each sentence (fairseq's ``D-`` lines), in the order of the data.
        tokenised: the same before fairseq detokenised them (``H-`` lines).
        references: tokenised references (``T-`` lines); none where the data has no target side.
        seconds: time spent generating, without loading; None for a file of ``--results-path``, which doesn't tell.
        tokens: number of tokens generated; None for such a file.
        pruning: what is left of the model, where ``--prune-layers`` was given.
    """

    hypotheses: list[str]
    tokenised: list[str]
    references: list[str]
    seconds: float | None
    tokens: int | None
    pruning: Pruning | None


@dataclass(frozen=True)
class LanguageModelLog:
    """A run of fairseq-eval-lm.

    Attributes:
        bits_per_token: cross-entropy in base 2, by token of the model.
        tokens: number of tokens scored, without the ``<s>`` of ``--add-bos-token``.
        seconds: time spent on them, without loading.
        pruning: what is left of the model, where ``--prune-layers`` was given.
    """

    bits_per_token: float
    tokens: int
    seconds: float
    pruning: Pruning | None


@dataclass(frozen=True)
class ValidationLog:
    """A run of fairseq-validate.

    Attributes:
        loss: the criterion's loss, in base 2.
        pruning: what is left of the model, where ``--prune-layers`` was given.
        seconds: None; it doesn't tell.
    """

    loss: float
    pruning: Pruning | None
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


def _setting(text: str, name: str) -> str | None:
    """The first setting of that name among those that fairseq tells at the start, as Python writes it."""
    settings = _SETTINGS.search(text)
    value = re.search(rf"'{name}': ([^,}}]+)", settings[0]) if settings else None
    return value[1] if value else None


def _check_one_run(path: Path, text: str, ends: re.Pattern[str]) -> None:
    """Refuse a log of several runs, or of several subsets; *ends* is what each is told to end with."""
    if len(ends.findall(text)) > 1 or len(_SETTINGS.findall(text)) > 1:
        raise LogError(f"{path} is of several runs or subsets; give each a log of its own")


def _check_lengths(path: Path, text: str, mend: str) -> None:
    """Refuse a log of a run that left out samples for their length; *mend* says what lets it take them."""
    skipped = _SKIPPED.search(text)
    if skipped:
        raise LogError(f"{path}: {skipped[1]} samples were too long and left out; {mend}")


def _check_shards(path: Path, text: str) -> None:
    """Refuse a log of a run over one of several shards of the data."""
    shards = max(int(_setting(text, name) or 1) for name in ("num_shards", "distributed_world_size"))
    if shards > 1:
        raise LogError(f"{path} is of one of {shards} shards of the data; leave out --num-shards")


def _pruning(text: str) -> Pruning | None:
    found = _PRUNED.search(text)
    if found:
        record = json.loads(found[1])
        depths = {stack: (kept, full) for stack, (kept, full) in record["depths"].items()}
        return Pruning(record["kept"], depths, record["parameters"]["after"])
    in_words = _PRUNED_IN_WORDS.search(text)
    if in_words:
        counts = _DEPTHS_IN_WORDS.findall(in_words[1])
        depths = {stack: (int(kept), int(full)) for stack, kept, full in counts}
        return Pruning(in_words[1], depths, _whole(in_words[2]))
    return None


def read_generation_log(path: StrPath) -> GenerationLog:
    """Read a file with the standard output and error of fairseq-generate, or the one that its --results-path writes.

    Raises:
        LogError: the file is missing, the run didn't finish, or sentences of the data are missing.
    """
    path = Path(path)
    text = _read(path)
    timing = _TRANSLATED.search(text)
    lines = text.split("\n")  # only line feeds end fairseq's lines; a hypothesis may hold other separators
    if timing is None and not _is_results(text):
        raise LogError(
            f"{path} is no log of a finished fairseq-generate, with all it prints: > LOG 2>&1, and no generate-….txt "
            "of its --results-path"
        )

    def found(pattern: re.Pattern[str]) -> dict[int, str]:
        texts: dict[int, str] = {}
        for match in filter(None, map(pattern.fullmatch, lines)):
            texts.setdefault(int(match[1]), match[2])  # the best of an n-best list comes first
        return dict(sorted(texts.items()))

    hypotheses = found(_HYPOTHESIS)
    if timing is not None and not hypotheses:
        raise LogError(
            f"{path} has no sentences: with --results-path they are in its generate-….txt, which can be scored, and "
            "--quiet leaves them out"
        )
    tokenised, references = found(_TOKENISED), found(_REFERENCE)
    for kind, lines_of in {"H-": tokenised, "T-": references}.items():
        odd = set(hypotheses) ^ set(lines_of) if lines_of else set()
        if odd:
            raise LogError(f"{path} has not every line of sentence {min(odd)}: D- and {kind} are needed; is it whole?")
    if timing is not None and len(hypotheses) != _whole(timing[1]):
        raise LogError(f"{path} has {len(hypotheses)} hypotheses, but tells of {timing[1]} sentences")
    _check_one_run(path, text, _TRANSLATED)
    _check_shards(path, text)
    _check_lengths(path, text, "give --truncate-source, or longer --max-source-positions and --max-target-positions")
    samples = _SAMPLES.findall(text)
    wanted = _whole(samples[0]) if len(samples) == 1 else max(hypotheses) + 1
    if len(hypotheses) < wanted:
        raise LogError(
            f"{path} has {len(hypotheses)} of {wanted} sentences: fairseq left the others out; give fairseq-generate "
            "--required-batch-size-multiple 1, and no --skip-invalid-size-inputs-valid-test"
        )
    return GenerationLog(
        hypotheses=list(hypotheses.values()),
        tokenised=list(tokenised.values()),
        references=list(references.values()),
        seconds=float(timing[3]) if timing else None,
        tokens=_whole(timing[2]) if timing else None,
        pruning=_pruning(text),
    )


def _is_results(text: str) -> bool:
    """Whether *text* is a whole file of ``--results-path``: with references, a finished run ends it with a score."""
    sentences, *score = _SCORED.split(text, maxsplit=1)
    *lines, last = sentences.split("\n")
    whole = bool(lines) and not last and bool(_LAST_OF_SENTENCE.match(lines[-1]))
    return whole and all(map(_OF_SENTENCE.match, lines)) and (bool(score) or not any(map(_REFERENCE.match, lines)))


def read_eval_lm_log(path: StrPath) -> LanguageModelLog:
    """Read a file with the output of fairseq-eval-lm.

    Raises:
        LogError: the file is missing, the run didn't finish, or blocks of the data are missing.
    """
    path = Path(path)
    text = _read(path, errors="replace")
    loss, evaluated = _LOSS.search(text), _EVALUATED.search(text)
    if not loss or not evaluated:
        raise LogError(f"{path} is no log of a finished fairseq-eval-lm, with all it prints: > LOG 2>&1")
    _check_one_run(path, text, _LOSS)
    _check_shards(path, text)
    _check_lengths(path, text, "give --tokens-per-sample what the model takes, without --sample-break-mode")
    tokens = _whole(evaluated[1])
    if _setting(text, "add_bos_token") == "True":
        # fairseq counts the <s> of each block, which it doesn't score
        blocks = _SAMPLES.search(text)
        if not blocks:
            raise LogError(f"{path} doesn't tell the number of blocks, each with a <s> that isn't scored")
        tokens -= _whole(blocks[1])
    if tokens < 1:
        raise LogError(f"{path}: no tokens were scored")
    if _setting(text, "post_process") not in (None, "None"):
        raise LogError(f"{path} tells loss by word but tokens in pieces; give fairseq-eval-lm no --remove-bpe")
    return LanguageModelLog(float(loss[1]), tokens, float(evaluated[2]), _pruning(text))


def read_validation_log(path: StrPath) -> ValidationLog:
    """Read a file with the output of fairseq-validate.

    Raises:
        LogError: the file is missing, the run didn't finish, or samples of the data are missing.
    """
    path = Path(path)
    text = _read(path, errors="replace")
    loss = _VALIDATED.search(text)
    if not loss:
        raise LogError(f"{path} is no log of a finished fairseq-validate, with all it prints: > LOG 2>&1")
    _check_one_run(path, text, _VALIDATED)
    _check_lengths(path, text, "allow longer ones, or give --shorten-method truncate")
    return ValidationLog(float(loss[1]), _pruning(text))
