"""Quality and time at each depth, of several models: a table and a picture from logs.

``python -m fairseq_layerdrop.reports.depth_table --metric METRIC --out OUT LOGS …`` takes logs of fairseq-generate
(or of fairseq-eval-lm, for perplexity, or of fairseq-validate, for masked-lm), one a model and pruned depth, or folders
of them, and writes OUT.json, OUT.md and OUT.png. A log's folder has its model's name. ``--paper`` sets published values
below.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.files import write_atomically
from ..base.tables import table
from ..evaluation import (
    MASKED_LM,
    PERPLEXITY,
    TEXT_METRICS,
    LogError,
    Metric,
    Perplexity,
    Pruning,
    Scores,
    add_text_arguments,
    joined,
    metric_of,
    read_eval_lm_log,
    read_generation_log,
    read_validation_log,
)
from .depths import DepthScore, draw_depths
from .drawing import close, encoded


@dataclass(frozen=True)
class Row:
    """One model at one depth.

    Attributes:
        model: the model's name.
        kept: the kept layers in words.
        depths: for each stack how many layers are kept, and of how many.
        parameters: number of parameters.
        scores: score by name.
        seconds: time spent generating or evaluating, without loading; None where the log doesn't tell.
    """

    model: str
    kept: str
    depths: dict[str, tuple[int, int]]
    parameters: int
    scores: dict[str, float]
    seconds: float | None


@dataclass(frozen=True)
class _Scored:
    """What a log gives."""

    pruning: Pruning | None
    scores: Scores
    seconds: float | None


def _perplexity(path: Path, words: int | None) -> _Scored:
    log = read_eval_lm_log(path)
    perplexity = Perplexity(log.bits_per_token, log.tokens, words)
    by_word = {} if perplexity.by_word is None else {"perplexity by word": perplexity.by_word}
    values = {**by_word, "perplexity by token": perplexity.by_token}
    return _Scored(log.pruning, Scores(values, f"perplexity over {log.tokens:,} tokens"), log.seconds)


def _masked_lm(path: Path) -> _Scored:
    log = read_validation_log(path)
    values = {"perplexity": 2**log.loss, "loss": log.loss}
    return _Scored(log.pruning, Scores(values, "perplexity by masked token, and loss in bits"), log.seconds)


def _texts(path: Path, metric: Metric, references: Sequence[str] | None) -> _Scored:
    log = read_generation_log(path)
    if log.seconds is None:
        raise LogError(f"{path} is a file of --results-path, which tells no time and no plan; give the whole log")
    wanted = log.references if references is None else list(references)
    if len(log.hypotheses) != len(wanted):
        raise LogError(f"{path} has {len(log.hypotheses)} hypotheses for {len(wanted)} references")
    given = log.tokenised if TEXT_METRICS[metric.name] else log.hypotheses
    try:
        scores = metric.scores(*joined([given, wanted], metric.remove_bpe))
    except UserError as error:
        raise LogError(f"{path}: {error.message}") from None
    return _Scored(log.pruning, scores, log.seconds)


def measure(
    logs: Sequence[Path], metric: Metric, references: Sequence[str] | None = None, words: int | None = None
) -> tuple[list[Row], str]:
    """The rows of all *logs*, deepest first, and the metric's signature.

    Args:
        logs: logs, in folders with the names of their models, or such folders.
        metric: of texts, perplexity or masked-lm.
        references: a line each; by default those in the logs.
        words: number of words of the text, for perplexity by word.

    Raises:
        LogError: a folder has no logs, or a log isn't of a pruned, finished run over all references.
    """
    rows, signature = [], ""
    for given in logs:
        paths = sorted(given.glob("*.log")) if given.is_dir() else [given]
        if not paths:
            raise LogError(f"no logs in {given}")
        for path in paths:
            if metric.name == PERPLEXITY:
                found = _perplexity(path, words)
            else:
                found = _masked_lm(path) if metric.name == MASKED_LM else _texts(path, metric, references)
            left = found.pruning
            if left is None:
                raise LogError(f"{path} is of a run without --prune-layers")
            signature, model = found.scores.signature, path.resolve().parent.name
            rows.append(Row(model, left.kept, left.depths, left.parameters, found.scores.values, found.seconds))
    return sorted(rows, key=lambda row: -row.parameters), signature


def to_markdown(rows: Sequence[Row], signature: str, paper: Mapping[str, Any] | None = None, title: str = "") -> str:
    """A Markdown table with one line a depth and the models side by side, under its title.

    Args:
        rows: what was measured.
        signature: how.
        paper: published values at full depth: ``table``, ``metric``, and ``values``, for a model scores or a word.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    names = list(rows[0].scores)
    timed = any(row.seconds is not None for row in rows)

    def cell(scores: Mapping[str, float]) -> str:
        return " / ".join(f"{scores[name]:.1f}" if name in scores else "-" for name in names)

    def cells(row: Row | None) -> list[str]:
        seconds = f"{row.seconds:.1f}" if row and row.seconds is not None else ""
        return [cell(row.scores) if row else "", *([seconds] if timed else [])]

    headings = ["kept", "parameters"]
    for model in models:
        headings += [f"{model}: {' / '.join(names)}", *(["seconds"] if timed else [])]
    lines = []
    for kept in dict.fromkeys(row.kept for row in rows):
        of_depth = {row.model: row for row in rows if row.kept == kept}
        parameters = next(iter(of_depth.values())).parameters
        lines.append([kept, f"{parameters:,}", *(text for model in models for text in cells(of_depth.get(model)))])
    if paper:
        line = [f"paper, full depth ({paper['table']}, {paper['metric']})", ""]
        for model in models:
            published = paper["values"].get(model, "")
            line += [published if isinstance(published, str) else cell(published), *([""] if timed else [])]
        lines.append(line)
    return (f"{title}\n\n" if title else "") + f"{table(headings, lines)}\n\n{signature}\n"


def _write(path: Path, content: bytes) -> None:
    with write_atomically(path) as file:
        file.write(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", type=Path, nargs="+", metavar="LOGS", help="logs, or folders of logs")
    parser.add_argument("--metric", choices=[*TEXT_METRICS, PERPLEXITY, MASKED_LM], default="sacrebleu")
    parser.add_argument("--reference", type=Path, help="references, one a line; default: those in the logs")
    parser.add_argument("--words", type=int, help="number of words in the text, for perplexity by word")
    add_text_arguments(parser)
    parser.add_argument("--paper", type=Path, help="JSON file with published values")
    parser.add_argument("--out", type=Path, required=True, help="where to write: OUT.json, OUT.md, OUT.png")
    parser.add_argument("--title", default="", help="title of the table and the picture")
    args = parser.parse_args()
    references = None
    if args.reference:
        if not args.reference.is_file():
            raise LogError(f"no such file: {args.reference}")
        references = args.reference.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    paper = args.paper and json.loads(args.paper.read_text(encoding="utf-8"))
    rows, signature = measure(args.logs, metric_of(args), references, args.words)
    markdown = to_markdown(rows, signature, paper, args.title)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "title": args.title,
        "metric": args.metric,
        "signature": signature,
        "rows": [asdict(row) for row in rows],
        "paper": paper,
    }
    name = next(iter(rows[0].scores))
    figure = draw_depths([DepthScore(row.model, row.depths, row.scores[name]) for row in rows], name, args.title)
    _write(Path(f"{args.out}.json"), (json.dumps(result, indent=1) + "\n").encode())
    _write(Path(f"{args.out}.md"), markdown.encode())
    _write(Path(f"{args.out}.png"), encoded(figure, "png"))
    close({name: figure})
    print(f"\n{markdown}\ntable: {args.out}.md, {args.out}.json\npicture: {args.out}.png")


if __name__ == "__main__":
    main()
