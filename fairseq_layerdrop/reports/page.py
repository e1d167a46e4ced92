"""A sweep as one page of HTML that needs nothing else."""

import base64
import json
from html import escape
from pathlib import Path
from string import Template

from .choice import COSTS, commands
from .drawing import COLOURS, close, encoded
from .points import LOWER_IS_BETTER, Point, Sweep
from .sweep_pictures import draw_all, score_label

_TEMPLATE = Path(__file__).with_name("page.html")
_CAPTIONS = {
    "depths": "The score over the number of layers kept; where several plans keep as many, the line is of the best.",
    "pareto": "The score over the latency; the lines join the points to which no other is better and as fast.",
    "grid": "The score over the layers kept of encoder and decoder.",
}


def page(sweep: Sweep, title: str) -> str:
    """The page: the table of all points, pictures, how it was measured, and where scripts run, an interactive chart."""
    metric, units = sweep.metric, {key: cost.unit_of(sweep.points[0]) for key, cost in COSTS.items()}
    data = {
        "score": metric,
        "score_label": score_label(metric),
        "lower_is_better": metric in LOWER_IS_BETTER,
        "costs": [{"key": key, "name": cost.name, "unit": units[key]} for key, cost in COSTS.items()],
        "points": [_for_script(sweep, point) for point in sweep.points],
    }
    names = list(sweep.points[0].quality)
    costs = [f"{cost.name}, {units[key]}" for key, cost in COSTS.items()]
    header = ["model", "plan", *names, *costs, "10-90 % of latency"]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        summary=escape(_summary(sweep)),
        header="".join(f"<th>{escape(name)}</th>" for name in header),
        rows="\n".join(_row(point, names) for point in sweep.points),
        pictures="\n".join(_pictures(sweep)),
        method="\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _method(sweep).items()),
        colours=json.dumps(COLOURS),
        data=json.dumps(data).replace("<", "\\u003c"),  # no text in it can end the script
    )


def _for_script(sweep: Sweep, point: Point) -> dict:
    return {
        "model": point.model,
        "plan": point.prune_layers,
        "score": point.quality[sweep.metric],
        "parameters": point.parameters,
        "costs": {key: cost.of(point) for key, cost in COSTS.items()},
        **commands(sweep, point),
    }


def _summary(sweep: Sweep) -> str:
    models = list(dict.fromkeys(point.model for point in sweep.points))
    return (
        f"{len(sweep.points)} networks out of {len(models)} checkpoint{'s' if models[1:] else ''} "
        f"({', '.join(models)}), measured on {sweep.run['subset']} with {sweep.run['machine']}."
    )


def _row(point: Point, names: list[str]) -> str:
    low, high = (1e3 * point.latency[end] for end in ("low", "high"))
    cells = [
        point.model,
        point.prune_layers or "whole",
        *(f"{point.quality[name]:.2f}" for name in names),
        *(f"{cost.of(point):.4g}" for cost in COSTS.values()),
        f"{low:.4g}-{high:.4g}",
    ]
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _pictures(sweep: Sweep):
    figures = draw_all(sweep)
    for name, figure in figures.items():
        picture = base64.b64encode(encoded(figure, "svg")).decode()
        yield f'<figure><img alt="{_CAPTIONS[name]}" src="data:image/svg+xml;base64,{picture}">'
        yield f"<figcaption>{_CAPTIONS[name]}</figcaption></figure>"
    close(figures)


def _method(sweep: Sweep) -> dict[str, str]:
    run, point = sweep.run, sweep.points[0]
    number, items = run["sentences"], f"{point.item.split()[0]}s"
    measured = f"all {items} that fit the model" if number is None else f"the first {number} {items}"
    batch = f"{run['batch_size']} {items}" if run["batch_size"] else f"{run['max_tokens']} tokens"
    found = {
        "machine": f"{run['machine']}; PyTorch {run['torch']} with {run['threads']} threads",
        "data": f"{run['data']}, {run['subset']}, {measured}",
        "score": point.signature,
        "latency": f"a {point.item} alone, median over {point.latency['count']} of them, each the median of "
        f"{run['repeats']} runs, after a warm-up",
        "time in batches": f"the same {items} in batches of at most {batch}, median of {run['repeats']} runs",
        "multiply-adds": "of matrix products, for each target token (given) or, of an encoder alone, each token",
        "peak memory": "while it was timed; on a CPU that of the whole process",
        "fairseq-layerdrop": run["version"],
    }
    if run["generation"]:
        told = ", ".join(f"{name} {value}" for name, value in run["generation"].items())
        found["generation"] = told
    return found
