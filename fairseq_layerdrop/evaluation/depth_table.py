"""Quality and time at each depth, of several models: a table and a picture from logs.

``python -m fairseq_layerdrop.evaluation.depth_table --metric METRIC --out OUT LOGS …`` takes logs of fairseq-generate
(or of fairseq-eval-lm, for perplexity, or of fairseq-validate, for masked-lm), one a model and pruned depth, or folders
of them, and writes OUT.json, OUT.md and OUT.png. A log's folder has its model's name. ``--paper`` sets published values
below.
"""

import argparse
import itertools
import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ..base.errors import UserError
from .logs import LogError, read_eval_lm_log, read_generation_log, read_validation_log
from .metrics import MASKED_LM, PERPLEXITY, TEXT_METRICS, Metric, Scores, add_text_arguments, metric_of
from .perplexity import Perplexity
from .texts import joined


@dataclass(frozen=True)
class Row:
    """One model at one depth.

    Attributes:
        model: the model's name.
        kept: the kept layers in words.
        parameters: number of parameters.
        scores: score by name.
        seconds: time spent generating or evaluating, without loading; None where the log doesn't tell.
    """

    model: str
    kept: str
    parameters: int
    scores: dict[str, float]
    seconds: float | None

    @property
    def depths(self) -> dict[str, tuple[int, int]]:
        """Kept and full depth of each stack."""
        found = re.findall(r"(\w+) (\d+) of (\d+) layers", self.kept)
        return {stack: (int(kept), int(full)) for stack, kept, full in found}


def _score_log(path: Path, metric: Metric, references: list[str] | None, words: int | None):
    """A log, and its scores.

    Raises:
        LogError: the log isn't of a pruned, finished run over all references.
    """
    if metric.name == PERPLEXITY:
        log = read_eval_lm_log(path)
        perplexity = Perplexity(log.bits_per_token, log.tokens, words)
        values = {"perplexity by token": perplexity.by_token}
        if words is not None:
            values = {"perplexity by word": perplexity.by_word, **values}
        scores = Scores(values, f"perplexity over {log.tokens:,} tokens")
    elif metric.name == MASKED_LM:
        log = read_validation_log(path)
        values = {"perplexity": 2**log.loss, "loss": log.loss}
        scores = Scores(values, "perplexity by masked token, and loss in bits")
    else:
        log = read_generation_log(path)
        if log.seconds is None:
            raise LogError(f"{path} is a file of --results-path, which tells no time and no plan; give the whole log")
        wanted = log.references if references is None else references
        if len(log.hypotheses) != len(wanted):
            raise LogError(f"{path} has {len(log.hypotheses)} hypotheses for {len(wanted)} references")
        given = log.tokenised if TEXT_METRICS[metric.name] else log.hypotheses
        try:
            scores = metric.scores(*joined([given, wanted], metric.remove_bpe))
        except UserError as error:
            raise LogError(f"{path}: {error.message}") from None
    if log.kept is None:
        raise LogError(f"{path} is of a run without --prune-layers")
    return log, scores


def measure(
    logs: list[Path], metric: Metric, references: list[str] | None = None, words: int | None = None
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
            log, scores = _score_log(path, metric, references, words)
            signature = scores.signature
            rows.append(Row(path.resolve().parent.name, log.kept, log.parameters, scores.values, log.seconds))
    return sorted(rows, key=lambda row: -row.parameters), signature


def pruned_stacks(rows: list[Row]) -> list[str]:
    """The stacks that are pruned in some row; all where there are none."""
    stacks = list(rows[0].depths)
    return [
        stack for stack in stacks if any(kept < full for row in rows for kept, full in [row.depths[stack]])
    ] or stacks


def kept_layers(row: Row, stacks: list[str]) -> int:
    """Number of layers that a row keeps of *stacks*."""
    return sum(row.depths[stack][0] for stack in stacks)


def to_markdown(rows: list[Row], signature: str, paper: dict | None = None, title: str = "") -> str:
    """A Markdown table with one line a depth and the models side by side, under its title.

    Args:
        rows: what was measured.
        signature: how.
        paper: published values at full depth: ``table``, ``metric``, and ``values``, for a model scores or a word.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    names = list(rows[0].scores)

    def cell(scores) -> str:
        return " / ".join(f"{scores[name]:.1f}" if name in scores else "-" for name in names)

    timed = any(row.seconds is not None for row in rows)
    headings = [f"{model}: {' / '.join(names)}" + " | seconds" * timed for model in models]
    lines = [title, ""] if title else []
    lines += [
        "| kept | parameters | " + " | ".join(headings) + " |",
        "|---|---:|" + "---:|" * (1 + timed) * len(models),
    ]
    for kept in dict.fromkeys(row.kept for row in rows):
        of_depth = {row.model: row for row in rows if row.kept == kept}
        cells = [kept, f"{next(iter(of_depth.values())).parameters:,}"]
        for model in models:
            row = of_depth.get(model)
            cells.append(cell(row.scores) if row else "")
            if timed:
                cells.append(f"{row.seconds:.1f}" if row and row.seconds is not None else "")
        lines.append("| " + " | ".join(cells) + " |")
    if paper:
        cells = [f"paper, full depth ({paper['table']}, {paper['metric']})", ""]
        for model in models:
            told = paper["values"].get(model, "")
            cells += [told if isinstance(told, str) else cell(told)] + [""] * timed
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{signature}\n"


def draw(rows: list[Row], title: str, path: Path) -> None:
    """Draw the first score over the number of kept layers of the pruned stacks, one curve a model."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq sets the root logger to tell everything
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    name, stacks = next(iter(rows[0].scores)), pruned_stacks(rows)
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for model, marker in zip(dict.fromkeys(row.model for row in rows), itertools.cycle("os^D")):
        curve = sorted((kept_layers(row, stacks), row.scores[name]) for row in rows if row.model == model)
        axes.plot(*zip(*curve), marker=marker, label=model)
    axes.set(xlabel=f"{' and '.join(stacks)} layers kept at inference", ylabel=name, title=title)
    if name.startswith(PERPLEXITY):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.05 * max(row.scores[name] for row in rows) + 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.invert_xaxis()
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


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
        references = args.reference.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    paper = args.paper and json.loads(args.paper.read_text(encoding="utf-8"))
    rows, signature = measure(args.logs, metric_of(args), references, args.words)
    table = to_markdown(rows, signature, paper, args.title)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "title": args.title,
        "metric": args.metric,
        "signature": signature,
        "rows": [asdict(row) for row in rows],
        "paper": paper,
    }
    Path(f"{args.out}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    Path(f"{args.out}.md").write_text(table, encoding="utf-8")
    draw(rows, args.title, Path(f"{args.out}.png"))
    print(f"\n{table}\ntable: {args.out}.md, {args.out}.json\npicture: {args.out}.png")


if __name__ == "__main__":
    main()
