"""What each layer and each sub-layer is worth: the loss without it.

Without it alone, and as in Figure 5 of Fan, Grave & Joulin (2020) on average over random sub-networks of half the depth
that leave it out. The paper shows perplexities there; here all is cross-entropy in bits per target token.
"""

import itertools
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import UserError
from ..base.files import write_atomically
from ..plan import Item, ListedChoice, Structure, Unit, unit_name, units_of
from ..reports.drawing import pyplot, save
from ..reports.sensitivity_picture import draw_sensitivity
from ..running.engine import Engine
from ..running.loading import Data, data_fingerprint, load_data
from ..running.measures import loss, tokens
from ..running.scorer import Processes, ScoreLog, Scorer
from ..version import __version__

FORMAT = "fairseq-layerdrop sensitivity"
VERSION = 1


def chosen_stacks(structure: Structure, choice: str) -> tuple[str, ...]:
    """The stacks that ``--stacks`` means: one by its name, or with ``both`` all that the model has.

    Raises:
        UserError: the model doesn't have it.
    """
    if choice not in ("both", *structure):
        raise UserError(f"this model has no {choice}, only {' and '.join(structure)}")
    return tuple(structure) if choice == "both" else (choice,)


def half_depth(depth: int, layer: int, samples: int, rng: random.Random) -> list[tuple[int, ...]]:
    """Random sub-networks of half a stack's depth without one of its layers, none of them twice.

    Args:
        depth: number of layers of the stack, N.
        layer: the one to leave out.
        samples: how many to draw; where no more than these exist, all are taken. More begin with those of fewer.
        rng: what draws.

    Returns:
        of each the numbers of the floor(N / 2) layers that it keeps, in ascending order.
    """
    others = [number for number in range(depth) if number != layer]
    kept = depth // 2
    if math.comb(len(others), kept) <= samples:
        return list(itertools.combinations(others, kept))
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < samples:
        drawn[tuple(sorted(rng.sample(others, kept)))] = None
    return list(drawn)


def standard_error(values: Sequence[float], existing: int) -> float | None:
    """Standard error of the mean of n values that are drawn without replacement from M.

    It is s / sqrt(n) * sqrt(1 - n / M), where s is the sample standard deviation of the n: 0 where all are drawn, as
    their mean is exact then.

    Args:
        values: the n drawn.
        existing: M, at least n.

    Returns:
        None of a single value out of several, which doesn't tell how far they spread.
    """
    if len(values) == existing:
        return 0.0
    if len(values) == 1:
        return None
    return statistics.stdev(values) / math.sqrt(len(values)) * math.sqrt(1 - len(values) / existing)


def losses_without(
    structure: Structure, stacks: Sequence[str], scorer: Callable[[bool], Scorer], samples: int = 20, seed: int = 1
) -> dict:
    """Score a model without each layer and sub-layer, and its random half-depth sub-networks.

    Args:
        structure: the model's stacks, each with its layers.
        stacks: the stacks to look into. The others stay whole.
        scorer: a function from whether the units are sub-layers to what scores plans by their loss.
        samples: number of random sub-networks a layer.
        seed: of their draws, which are a layer's own: they don't depend on the other layers and stacks.

    Returns:
        ``loss``, the full model's; ``layers`` and ``sub_layers``, a row each with its ``unit``, the ``loss`` without it
        and the ``increase`` over the full model's; ``half_depth``, a row a layer with its ``unit``, the ``mean`` loss
        of the sub-networks without it, its :func:`standard_error`, how many such sub-networks there are
        (``existing``), and those scored (``subnetworks``), each with the ``prune_layers`` that makes it. A stack of a
        single layer has no ``half_depth``.
    """
    layers, sublayers = ([unit for unit in units_of(structure, small) if unit[0] in stacks] for small in (False, True))
    drawn = {}
    for layer in layers:
        stack, number, _ = layer
        depth = len(structure[stack])
        if depth > 1:
            drawn[layer] = half_depth(depth, number, samples, random.Random(f"{seed} {stack} {number}"))

    def others(stack: str, kept: Sequence[int]) -> tuple[Unit, ...]:
        """What a sub-network leaves out."""
        return tuple(unit for unit in layers if unit[0] == stack and unit[1] not in kept)

    subnetworks = [others(layer[0], kept) for layer, keeps in drawn.items() for kept in keeps]
    plans = [(), *((layer,) for layer in layers), *subnetworks]  # all in one call, to share their beginnings
    losses = dict(zip(plans, scorer(False).scores(plans)))
    plans = [(unit,) for unit in sublayers]
    losses.update(zip(plans, scorer(True).scores(plans)))

    def row(unit: Unit) -> dict:
        return {"unit": unit_name(unit), "loss": losses[unit,], "increase": losses[unit,] - losses[()]}

    def half_depth_row(layer: Unit) -> dict:
        stack, depth = layer[0], len(structure[layer[0]])
        scored = [losses[others(stack, kept)] for kept in drawn[layer]]
        existing = math.comb(depth - 1, depth // 2)
        return {
            "unit": unit_name(layer),
            "mean": statistics.fmean(scored),
            "standard_error": standard_error(scored, existing),
            "existing": existing,
            "subnetworks": [
                {"prune_layers": f"{stack}={ListedChoice('keep', tuple(map(Item, kept)))}", "loss": score}
                for kept, score in zip(drawn[layer], scored)
            ],
        }

    return {
        "loss": losses[()],
        "layers": [row(unit) for unit in layers],
        "sub_layers": [row(unit) for unit in sublayers],
        "half_depth": [half_depth_row(layer) for layer in drawn],
    }


@dataclass(frozen=True)
class Sensitivity:
    """What :func:`sensitivity` found.

    Attributes:
        result: what ``sensitivity.json`` says: see :func:`losses_without`, and ``origin``.
        evaluations: number of layers and sub-layers that were run for it.
    """

    result: Mapping
    evaluations: float


def sensitivity(path, data: Data, output, stacks: str = "both", samples: int = 20, seed: int = 1) -> Sensitivity:
    """Measure what each layer and sub-layer of a model is worth; write ``sensitivity.json``, .png and .svg.

    Args:
        path: checkpoint of the whole model.
        data: what to measure the loss on.
        output: folder for the results. Scores are noted there at once, and a run started again goes on.
        stacks: where to look: ``encoder``, ``decoder`` or ``both``.
        samples: number of random half-depth sub-networks a layer.
        seed: of their draws.

    Raises:
        UserError: an argument, the checkpoint or the data is wrong, or the folder has scores of another run.
    """
    output, processes = Path(output), Processes()
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; give a folder's name")
    pyplot()  # tell of a missing matplotlib before hours of work
    loaded, batches = load_data(path, data)
    names = chosen_stacks(loaded.structure, stacks)
    engine = Engine(loaded.model, loaded.structure, batches, data.memory)
    count = sum(tokens(sample, loaded.target_pad) for sample in batches)
    described = {
        "metric": "loss", "fingerprint": loaded.fingerprint, "overrides": data.overrides,
        "data": data_fingerprint(batches), "subset": data.subset, "tokens": count,
        "device": next(loaded.model.parameters()).device.type, "version": __version__,
    }  # fmt: skip
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {output}: {error.strerror or error}") from error
    run = {**described, "parts (--memory)": engine.parts}
    log = ScoreLog(output / "sensitivity.scores", run, processes, "another DIR")

    def scorer(sublayers: bool) -> Scorer:
        return Scorer(engine, sublayers, loss(loaded.model, loaded.criterion), count, log, "loss")

    origin = {
        "checkpoint": Path(path).name, **described, "target": loaded.target, "samples": samples, "seed": seed,
    }  # fmt: skip
    measured = losses_without(loaded.structure, names, scorer, samples, seed)
    found = {"format": FORMAT, "version": VERSION, "origin": origin, **measured}
    if processes.rank == 0:
        with write_atomically(output / "sensitivity.json") as file:
            file.write(f"{json.dumps(found, indent=1)}\n".encode())
        save({"sensitivity": draw_sensitivity(found)}, output)
    return Sensitivity(found, engine.evaluations)
