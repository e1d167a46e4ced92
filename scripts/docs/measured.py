"""Numbers and tables for the documentation, from the JSON files that the measurements wrote.

``scripts/docs/generate.py`` puts them into the Markdown files: a number in a sentence stands before the expression it
comes from, ``34.3<!--= bleu("layerdrop", 6, 3) -->``, and a table stands in a block of cog, ``show(by_depth(…))``.
"""

import ast
import functools
import inspect
import json
import math
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
NAMES = {"layerdrop": "LayerDrop 0.2", "baseline": "no LayerDrop", "plain": "plain"}


@functools.cache
def read(name: str):
    """A JSON file below ``configs/``, by its name without ``.json``."""
    return json.loads((ROOT / f"configs/{name}.json").read_text(encoding="utf-8"))


def show(table: str) -> None:
    """Print a table as a paragraph of its own."""
    print(f"\n{table}\n")


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, its first *left* columns flush left and the others flush right."""
    align = ["left"] * left + ["right"] * (len(headings) - left)
    return tabulate(list(rows), headings, tablefmt="pipe", colalign=align, disable_numparse=True)


def _depths(kept: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"(\d+) of \d+ layers", kept)))


# Tables by depth, as fairseq_layerdrop.reports.depth_table writes them.


def _by_depth(name: str) -> dict[tuple, Mapping]:
    """Rows by model and kept layers of each stack."""
    model = {"small_layerdrop": "layerdrop", "small_baseline": "baseline"}
    rows = read(name)["rows"]
    return {(model.get(row["model"], row["model"]), *_depths(row["kept"])): row for row in rows}


def score(benchmark: str, model: str, *kept: int, by: str | None = None) -> float:
    """The first score, or that of name *by*, of a model with these numbers of layers."""
    scores = _by_depth(f"{benchmark}/result")[(model, *kept)]["scores"]
    return scores[by or next(iter(scores))]


bleu = functools.partial(score, "multi30k")
perplexity = functools.partial(score, "wikitext2")
masked_perplexity = functools.partial(score, "roberta")


def by_depth(name: str, specs: Mapping[tuple, str], metric: str, timed: bool = False) -> str:
    """A score at each depth, a line each, of two models side by side.

    Args:
        name: file below ``configs/``.
        specs: what to call each row, by its numbers of layers.
        metric: which score.
        timed: whether to give seconds, too.
    """
    rows = _by_depth(name)
    models = sorted({model for model, *_ in rows}, key=list(NAMES).index)
    headings = ["kept", "parameters"]
    for model in models:
        headings += [f"{NAMES[model]}: {metric}", *(["seconds"] if timed else [])]
    lines = []
    for kept, text in specs.items():
        cells = [text, f"{rows[(models[0], *kept)]['parameters']:,}"]
        for model in models:
            row = rows[(model, *kept)]
            found = row["scores"].get(metric, next(iter(row["scores"].values())))
            cells += [f"{found:.1f}", *([f"{row['seconds']:.1f}"] if timed else [])]
        lines.append(cells)
    return markdown(headings, lines)


def quickstart() -> str:
    """The table of ``scripts/quickstart.sh``, with what matters in it in bold."""
    result = json.loads((ROOT / "scripts/quickstart.json").read_text(encoding="utf-8"))
    lines = []
    for kept in dict.fromkeys(row["kept"] for row in result["rows"]):
        ours, plain = (
            next(row for row in result["rows"] if (row["model"], row["kept"]) == (model, kept))
            for model in ("layerdrop", "plain")
        )
        count, full, layers = re.search(r"decoder (\d+) of (\d+) layers \((.*)\)", kept).groups()
        cells = [f"{row['scores']['BLEU']:.1f}" for row in (ours, plain)]
        if count == "2":
            cells = [f"**{cell}**" for cell in cells]
        seconds = [f"{row['seconds']:.1f}" for row in (ours, plain)]
        layers = "all" if count == full else layers
        lines.append([f"{count}: {layers}", f"{ours['parameters']:,}", cells[0], seconds[0], cells[1], seconds[1]])
    headings = ["decoder layers kept", "parameters", "LayerDrop: BLEU", "seconds", "plain: BLEU", "seconds"]
    return markdown(headings, lines)


# What to drop while training, and fine-tuning.


def dropping(variant: str, keep: str = "8 layers") -> float:
    """Mean perplexity over seeds of ``scripts/bench/what_to_drop.py``."""
    return statistics.mean(_dropping(variant, keep))


def _dropping(variant: str, keep: str) -> list[float]:
    rows = read("wikitext2/what_to_drop")
    return [row["perplexity"] for row in rows if (row["variant"], row["keep"]) == (variant, keep)]


def what_to_drop() -> str:
    """Perplexities of ``scripts/bench/what_to_drop.py``: mean and standard deviation over seeds."""
    rows = read("wikitext2/what_to_drop")
    keeps = list(dict.fromkeys(row["keep"] for row in rows))
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        found = [_dropping(variant, keep) for keep in keeps]
        lines.append(
            [variant, *(f"{statistics.mean(of):.1f} ± {statistics.stdev(of):.1f}" if of else "" for of in found)]
        )
    return markdown(["dropped while training", *(f"`{k}`" if ":" in k else k for k in keeps)], lines)


def tuned(model: str, updates: int = 750) -> float:
    """Perplexity of ``scripts/bench/fine_tuning.py`` after so many updates."""
    [row] = [row for row in read("wikitext2/fine_tuning") if (row["model"], row["updates"]) == (model, updates)]
    return row["perplexity"]


def fine_tuning() -> str:
    """Perplexities of ``scripts/bench/fine_tuning.py``, before and after."""
    lines = [[NAMES[m], f"{tuned(m, 0):.1f}", f"{tuned(m):.1f}"] for m in ("layerdrop", "baseline")]
    return markdown(["trained with", "pruned", "pruned and fine-tuned"], lines)


# Choosing by data.


def chosen(benchmark: str, model: str, method: str, keep: int | None) -> float:
    """Test score of ``scripts/bench/selection_quality.py``; of the whole model with method ``full``."""
    rows = read(f"{benchmark}/selection")["rows"]
    [row] = [row for row in rows if (row["model"], row["method"], row["keep"]) == (model, method, keep)]
    return row["score"]


def selection(benchmark: str) -> str:
    """Test scores of ``scripts/bench/selection_quality.py``, a line a way to choose."""
    rows = [row for row in read(f"{benchmark}/selection")["rows"] if row["keep"] is not None]
    keeps = list(dict.fromkeys(row["keep"] for row in rows))
    models = ("layerdrop", "baseline")
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        scores = [f"{chosen(benchmark, model, method, keep):.1f}" for model in models for keep in keeps]
        seconds = [row["seconds"] for row in rows if row["method"] == method]
        ends = dict.fromkeys(f"{end:.0f}" for end in (min(seconds), max(seconds)))
        took = "-".join(ends) if max(seconds) else ""
        lines.append([f"`{method}`", *scores, took])
    whole = [f"{chosen(benchmark, model, 'full', None):.1f}" for model in models for _ in keeps]
    lines.insert(0, ["whole model", *whole, ""])
    headings = [f"{NAMES[model]}, {keep}" for model in models for keep in keeps]
    return markdown(["method", *headings, "seconds to choose"], lines)


def best_gain(benchmark: str, *keeps: int) -> float:
    """How much higher than Every Other's the best score is on the model with LayerDrop, at any of these sizes.

    It is rounded up to a tenth.
    """
    rows = [row for row in read(f"{benchmark}/selection")["rows"] if row["model"] == "layerdrop"]
    every_other = {keep: chosen(benchmark, "layerdrop", "every_other", keep) for keep in keeps}
    return math.ceil(10 * max(row["score"] - every_other[row["keep"]] for row in rows if row["keep"] in keeps)) / 10


def selection_speed() -> str:
    """Ratios of ``scripts/bench/selection_speed.py``."""
    lines = [
        [
            row["question"], f"{row['run_shared']:,.0f}", f"{row['run_naive']:,.0f}", f"{row['promise']:.2f}",
            f"{row['seconds_shared']:.1f}", f"{row['seconds_naive']:.1f}", f"**{row['ratio']:.2f}**",
            f"{row['least']:.2f}-{row['most']:.2f}",
        ]
        for row in read("selection_speed")["rows"]
    ]  # fmt: skip
    headings = ["question", "units run: shared", "naive", "promise", "seconds: shared", "naive", "faster", "spread"]
    return markdown(headings, lines)


def front_door() -> str:
    """Processor times of ``scripts/bench/front_door.py``."""
    lines = [
        [f"`{row['command'].replace('{text}', 'text')}`", f"{row['before']:.2f}", f"{row['now']:.2f}",
         f"1/{1 / row['share']:.0f}", f"1/{1 / row['high']:.0f}-1/{1 / row['low']:.0f}"]
        for row in read("front_door")["rows"]
    ]  # fmt: skip
    return markdown(["fairseq-layerdrop …", "before, s", "now, s", "share", "spread"], lines)


# Sweeps, sensitivities and mixtures.


def swept(encoder: int, decoder: int, model: str = "layerdrop") -> dict:
    """A point of the sweep over Multi30k."""
    lines = (ROOT / "configs/multi30k/sweep/sweep.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    points = [json.loads(line) for line in lines]
    kept = {"encoder": [encoder, 6], "decoder": [decoder, 6]}
    return next(point for point in points if (point["model"], point["depths"]) == (model, kept))


def latency(encoder: int, decoder: int) -> float:
    """Median milliseconds a sentence."""
    return 1e3 * swept(encoder, decoder)["latency"]["median"]


def lost(encoder: int, decoder: int, model: str = "layerdrop") -> float:
    """BLEU on valid that a model loses by pruning."""
    return swept(6, 6, model)["quality"]["BLEU"] - swept(encoder, decoder, model)["quality"]["BLEU"]


def saved(encoder: int, decoder: int) -> str:
    """Share of the parameters that pruning takes away, in percent."""
    return f"{100 - 100 * swept(encoder, decoder)['parameters'] / swept(6, 6)['parameters']:.0f}"


def worth(benchmark: str, model: str, stack: str = "decoder") -> list[float]:
    """Bits per token that the loss of each layer of a stack costs the full model."""
    layers = read(f"{benchmark}/sensitivity/{model}")["layers"]
    return [layer["increase"] for layer in layers if layer["unit"].startswith(stack)]


def mixture(benchmark: str, model: str) -> dict:
    """What ``fairseq-layerdrop mixture`` found for a model."""
    return next(found for found in read(f"{benchmark}/mixture")["models"] if found["name"] == model)


def bits(benchmark: str, model: str, code: str) -> str:
    """Bits per token of a code of the mixture."""
    return f"{mixture(benchmark, model)['bits_per_token'][code]:.3f}"


def nearby(benchmark: str, model: str, within: float = 0.1) -> str:
    """Prior weight of the sub-networks that are *within* so many bits per token of the full one, in percent."""
    ball = mixture(benchmark, model)["ball"]
    index = min(range(len(ball["epsilon"])), key=lambda i: abs(ball["epsilon"][i] - within))
    return f"{100 * ball['weight'][index]:.0f}"


# Speed.


def speed(program: str, depth: str, weights: str = "float32", threads: int = 1) -> dict:
    """A row of ``scripts/bench/translation_speed.py``."""
    rows = read("multi30k/speed" if threads == 1 else "multi30k/speed_two_threads")["rows"]
    wanted = (program, depth, weights)
    return next(row for row in rows if (row["program"], row["depth"], row["weights"]) == wanted)


def translation_speed() -> str:
    """Sentences per second of ``scripts/bench/translation_speed.py`` with one thread."""
    lines = []
    for row in read("multi30k/speed")["rows"]:
        rate = row["sentences_per_second"]
        lines.append(
            [
                row["program"], row["depth"], row["weights"], f"{rate['median']:.0f}",
                f"{rate['least']:.0f}-{rate['most']:.0f}", f"{row['ratio']:.2f}", f"{row['bleu']:.1f}",
                f"{row['bytes'] / 1e6:.1f}", f"{100 * row['same_as_fairseq_generate']:.1f} %",
            ]
        )  # fmt: skip
    headings = [
        "program", "layers", "weights", "sentences/s", "spread", "ratio", "BLEU", "MB", "same translations",
    ]  # fmt: skip
    return markdown(headings, lines, left=3)


def generation_speed() -> str:
    """Sentences per second of ``scripts/bench/generation_speed.py``."""
    lines = [
        [
            str(row["threads"]), f"{row['stock']:.1f}", f"{row['ours']:.1f}", f"**{row['faster']:.2f}**",
            f"{row['least']:.2f}-{row['most']:.2f}", f"{row['same_hypotheses']:,} of {row['sentences']:,}",
        ]
        for row in read("multi30k/generation_speed")["rows"]
    ]  # fmt: skip
    headings = ["threads", "stock: sentences/s", "ours: sentences/s", "faster", "spread", "same hypotheses"]
    return markdown(headings, lines, left=0)


def training_speed() -> str:
    """Times of ``scripts/bench/training_speed.py``."""
    lines = [
        [
            row["system"], row["baseline"], str(row["processes"]), f"{row['seconds']:.3f}",
            f"{row['seconds_baseline']:.3f}", f"{row['kept']:.2f}", f"{row['kept_baseline']:.2f}",
            f"**{row['ratio']:.3f}**", f"{row['least']:.2f}-{row['most']:.2f}",
        ]
        for row in read("wikitext2/training_speed")["rows"]
    ]  # fmt: skip
    headings = [
        "system", "against", "processes", "seconds a step", "against: seconds", "layers kept", "against: kept",
        "ratio", "spread",
    ]  # fmt: skip
    return markdown(headings, lines, left=2)


# RoBERTa and GLUE.

_GLUE = {"SST-2": "accuracy", "MRPC": "accuracy"}
_MODELS = {"layerdrop": "small_layerdrop", "baseline": "small_baseline", "random": "random weights"}


def glue(task: str, model: str, strategy: str = "full", dropped: int = 0) -> dict:
    """Means over seeds of one row of a task's comparison."""
    wanted = (_MODELS[model], strategy, dropped)
    return next(m for m in read(f"roberta/{task}")["means"] if (m["model"], m["strategy"], m["dropped"]) == wanted)


def glue_accuracy(model: str, strategy: str = "full", dropped: int = 0, task: str = "SST-2") -> float:
    """Mean accuracy of one row of a task's comparison."""
    return glue(task, model, strategy, dropped)["scores"]["accuracy"]


def glue_left(dropped: int) -> str:
    """Share of the parameters that are left, in percent."""
    left, whole = glue("SST-2", "layerdrop", "top", dropped), glue("SST-2", "layerdrop")
    return f"{100 * left['parameters'] / whole['parameters']:.0f}"


def glue_lost(model: str, strategy: str, dropped: int = 6, task: str = "SST-2") -> float:
    """Points of a task's first score that a model loses by dropping layers before it is fine-tuned."""
    return glue_accuracy(model, task=task) - glue_accuracy(model, strategy, dropped, task)


def glue_table() -> str:
    """Accuracy of both models on both tasks, by what was dropped."""
    columns = [(task, model) for task in _GLUE for model in ("layerdrop", "baseline")]

    def cell(mean: Mapping) -> str:
        return f"{mean['scores']['accuracy']:.1f} ± {mean['spread']['accuracy']:.1f}"

    means = [mean for mean in read("roberta/SST-2")["means"] if mean["model"] == _MODELS["layerdrop"]]
    strategies = [(mean["dropped"], mean["strategy"]) for mean in means]
    lines = [
        ["0", "majority class", *(f"{read(f'roberta/{task}')['majority']['accuracy']:.1f}" for task, _ in columns)],
        ["0", "random weights", *(cell(glue(task, "random")) for task, _ in columns)],
        *(
            [str(dropped), strategy, *(cell(glue(*column, strategy, dropped)) for column in columns)]
            for dropped, strategy in strategies
        ),
    ]
    return markdown(["layers dropped", "strategy", *(f"{task}, {NAMES[model]}" for task, model in columns)], lines, 2)


# Recipes.


def _header(config: Path) -> dict[str, str]:
    """What a configuration's header tells, by its key: ``# Hardware: …``."""
    header: dict[str, str] = {}
    key = None
    for line in config.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if match := re.match(r"# ([A-Z][a-z ]+): (.*)", line):
            key = match[1]
            header[key] = match[2]
        elif key and re.match(r"# \S", line) and not line.startswith("# -"):
            header[key] += line[1:]
        else:
            key = None
    return header


def _measured() -> dict[str, str]:
    found = {}
    for model in ("layerdrop", "baseline"):
        found |= {
            f"multi30k/{model}": f"{bleu(model, 6, 6):.1f} BLEU; half the decoder: {bleu(model, 6, 3):.1f}",
            f"wikitext2/{model}": f"perplexity by word {perplexity(model, 12):.1f}; half: {perplexity(model, 6):.1f}",
            f"roberta/small_{model}": f"perplexity {masked_perplexity(model, 12):.1f} by masked piece; "
            f"half: {masked_perplexity(model, 6):.1f}",
        }
    return found


def recipes() -> str:
    """Every configuration: what it reproduces, what to expect, what it takes, and what was measured here."""
    measured = _measured()
    lines = []
    for config in sorted((ROOT / "configs").glob("*/*.yaml")):
        name, header = f"{config.parent.name}/{config.stem}", _header(config)
        source, _, expected = header.get("Reproduces", "").removesuffix(".").partition(": ")
        if source.startswith("no published table"):
            source, expected = "", expected.partition(". ")[0]
        table = re.search(r"Table \d+", source)
        source = table[0] if table else source.partition(";")[0]
        hardware = header.get("Hardware", "").partition(":")[0].removesuffix(".")
        lines.append([f"`{name}`", source, expected, hardware, measured.get(name, "")])
    return markdown(["run", "reproduces", "expected", "hardware", "measured here"], lines, left=5)


def estimates() -> str:
    """Estimates of ``scripts/bench/estimate_runs.py``."""
    lines = [
        [
            f"`{row['run']}`", f"{row['tokens']:,} x {row['accumulations']} x {row['devices']}", f"{row['updates']:,}",
            f"{row['teraflops_a_micro_batch']:.2f}", f"{row['hours']:.1f}", f"{row['gigabytes']:.1f}",
        ]
        for row in read("estimates")["rows"]
    ]  # fmt: skip
    headings = [
        "run", "batch: tokens x accumulations x GPUs", "updates", "TFLOP a micro-batch", "hours", "GB a GPU",
    ]  # fmt: skip
    return markdown(headings, lines)


# Design.


def fixes() -> str:
    """The changes to fairseq, from the table that applies them."""
    from fairseq_layerdrop.fairseq_fixes import FIXES  # loads fairseq

    lines = []
    for fix in FIXES:
        owner = fix.owner.__name__ if inspect.ismodule(fix.owner) else f"{fix.owner.__module__}.{fix.owner.__name__}"
        issue = f"[{fix.issue.rpartition('/')[2]}]({fix.issue})" if fix.issue else ""
        lines.append([f"`{fix.name}`", f"`{owner}.{fix.function}`", fix.why, issue])
    return markdown(["change", "function", "what is wrong without it", "issue"], lines, left=4)


def rooms() -> str:
    """The package's rooms, lowest first, each with the first sentence of its docstring and the rooms it may import."""
    from tests.test_rooms import MAY_IMPORT

    lines = []
    for room, below in MAY_IMPORT.items():
        path = ROOT / f"fairseq_layerdrop/{room}/__init__.py"
        job = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n\n")[0]
        job = " ".join(job.split(". ")[0].removesuffix(".").split()).replace("``", "`")
        imports = [name for name in MAY_IMPORT if name in below - {room}]
        lines.append([f"`{room}`", job, ", ".join(f"`{name}`" for name in imports)])
    return markdown(["room", "what it is for", "may import"], lines, left=3)
