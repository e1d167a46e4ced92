"""Quality and time at each depth, of several models: a table and a picture from logs of fairseq-generate.

``python -m fairseq_layerdrop.evaluation.depth_table --reference REF --out OUT DIR …`` takes for each model a folder of
logs, one a pruned depth, and writes OUT.json, OUT.md and OUT.png. A folder's name is its model's.
"""

import argparse
import itertools
import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from .bleu import detokenised_bleu
from .generation_log import LogError, read_generation_log


@dataclass(frozen=True)
class Row:
    """One model at one depth.

    Attributes:
        model: the model's name.
        kept: the kept layers in words.
        kept_layers: number of kept layers in the stacks that are pruned at some depth of the table.
        parameters: number of parameters.
        bleu: detokenised sacreBLEU, in percent.
        seconds: time spent generating.
    """

    model: str
    kept: str
    kept_layers: int
    parameters: int
    bleu: float
    seconds: float


def _depths(kept: str) -> dict[str, tuple[int, int]]:
    """Kept and full depth of each stack, from a plan in words."""
    return {stack: (int(few), int(all_)) for stack, few, all_ in re.findall(r"(\w+) (\d+) of (\d+) layers", kept)}


def measure(folders: list[Path], references: list[str]) -> tuple[list[Row], list[str], str]:
    """The rows of all logs in *folders*, deepest first, the stacks pruned somewhere, and sacreBLEU's signature.

    Raises:
        LogError: a folder has no logs, or a log isn't of a pruned, finished run over all *references*.
    """
    logs = []
    for folder in folders:
        paths = sorted(folder.glob("*.log"))
        if not paths:
            raise LogError(f"no logs in {folder}")
        for path in paths:
            log = read_generation_log(path)
            if log.kept is None:
                raise LogError(f"{path} is of a run without --prune-layers")
            if len(log.hypotheses) != len(references):
                raise LogError(f"{path} has {len(log.hypotheses)} hypotheses for {len(references)} references")
            logs.append((folder.name, log))
    pruned = [
        stack
        for stack in _depths(logs[0][1].kept)
        if any(few < all_ for _, log in logs for few, all_ in [_depths(log.kept)[stack]])
    ]
    pruned = pruned or list(_depths(logs[0][1].kept))  # full depth alone: count all stacks
    rows, signature = [], ""
    for model, log in logs:
        bleu = detokenised_bleu(log.hypotheses, references)
        signature = bleu.signature
        kept_layers = sum(_depths(log.kept)[stack][0] for stack in pruned)
        rows.append(Row(model, log.kept, kept_layers, log.parameters, bleu.score, log.seconds))
    return sorted(rows, key=lambda row: (-row.kept_layers, -row.parameters)), pruned, signature


def to_markdown(rows: list[Row], signature: str) -> str:
    """A Markdown table with one line a depth and the models side by side."""
    models = list(dict.fromkeys(row.model for row in rows))
    lines = [
        "| kept | parameters | " + " | ".join(f"{model}: BLEU | seconds" for model in models) + " |",
        "|---|---:|" + "---:|---:|" * len(models),
    ]
    for kept in dict.fromkeys(row.kept for row in rows):
        of_depth = {row.model: row for row in rows if row.kept == kept}
        cells = [kept, f"{next(iter(of_depth.values())).parameters:,}"]
        for model in models:
            row = of_depth.get(model)
            cells += [f"{row.bleu:.1f}", f"{row.seconds:.1f}"] if row else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\nsacreBLEU {signature}\n"


def draw(rows: list[Row], pruned: list[str], title: str, path: Path) -> None:
    """Draw BLEU over the number of kept layers of the *pruned* stacks, one curve a model."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq sets the root logger to tell everything
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for model, marker in zip(dict.fromkeys(row.model for row in rows), itertools.cycle("os^D")):
        curve = [row for row in rows if row.model == model]
        axes.plot([row.kept_layers for row in curve], [row.bleu for row in curve], marker=marker, label=model)
    axes.set(
        xlabel=f"{' and '.join(pruned)} layers kept at inference",
        ylabel="BLEU",
        title=title,
        ylim=(0, 1.05 * max(row.bleu for row in rows) + 1),
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--reference", type=Path, required=True, help="reference translations, one a line")
    parser.add_argument("--out", type=Path, required=True, help="where to write: OUT.json, OUT.md, OUT.png")
    parser.add_argument("--title", default="", help="title of the picture")
    args = parser.parse_args()
    references = args.reference.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    rows, pruned, signature = measure(args.folders, references)
    table = to_markdown(rows, signature)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{args.out}.json").write_text(
        json.dumps({"signature": signature, "rows": [asdict(row) for row in rows]}, indent=2) + "\n", encoding="utf-8"
    )
    Path(f"{args.out}.md").write_text(table, encoding="utf-8")
    draw(rows, pruned, args.title, Path(f"{args.out}.png"))
    print(f"\n{table}\ntable: {args.out}.md, {args.out}.json\npicture: {args.out}.png")


if __name__ == "__main__":
    main()
