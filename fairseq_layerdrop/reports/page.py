"""A sweep as one page of HTML that needs nothing else."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from ..base.errors import UserError
from ..base.files import StrPath, write_atomically
from .choice import COSTS, commands
from .depths import score_label
from .drawing import COLOURS, close, encoded
from .points import Point, Sweep, is_lower_better, read_sweep
from .sweep_pictures import draw_all

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
        "lower_is_better": is_lower_better(metric),
        "costs": [{"key": key, "name": cost.name, "unit": units[key]} for key, cost in COSTS.items()],
        "points": [_for_script(sweep, point) for point in sweep.points],
    }
    names = list(sweep.points[0].quality)
    costs = [f"{cost.name}, {units[key]}" for key, cost in COSTS.items()]
    template = Environment(loader=PackageLoader(__package__, "."), autoescape=True).get_template("page.html")
    return template.render(
        title=title,
        summary=_summary(sweep),
        header=["model", "plan", *names, *costs, "10-90 % of latency"],
        rows=[_row(point, names) for point in sweep.points],
        pictures=list(_pictures(sweep)),
        method=_method(sweep),
        colours=COLOURS,
        data=data,
    )


def report(folder: StrPath, output: StrPath | None = None, title: str = "What pruning costs") -> Path:
    """Write the page of the sweep in a folder.

    Args:
        folder: of the sweep.
        output: the page to write; ``FOLDER/report.html`` by default.
        title: heading of the page.

    Returns:
        the page's path.

    Raises:
        UserError: there is no sweep, or the page can't be written.
    """
    sweep, path = read_sweep(folder), Path(output or Path(folder) / "report.html")
    if path.suffix != ".html":
        raise UserError(f"{path} must be named .html")
    with write_atomically(path) as file:
        file.write(page(sweep, title).encode())
    return path


def _for_script(sweep: Sweep, point: Point) -> dict[str, Any]:
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


def _row(point: Point, names: list[str]) -> list[str]:
    low, high = (1e3 * point.latency[end] for end in ("low", "high"))
    return [
        point.model,
        point.prune_layers or "whole",
        *(f"{point.quality[name]:.2f}" for name in names),
        *(f"{cost.of(point):.4g}" for cost in COSTS.values()),
        f"{low:.4g}-{high:.4g}",
    ]


def _pictures(sweep: Sweep) -> Iterator[dict[str, str]]:
    figures = draw_all(sweep)
    for name, figure in figures.items():
        yield {"caption": _CAPTIONS[name], "svg": base64.b64encode(encoded(figure, "svg")).decode()}
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
        found["generation"] = ", ".join(f"{name} {value}" for name, value in run["generation"].items())
    return found
