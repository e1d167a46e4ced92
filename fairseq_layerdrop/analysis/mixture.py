"""What the Bayesian mixture over a model's sub-networks says of it."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy
import torch
from tqdm import tqdm

from ..base.errors import UserError
from ..base.files import write_atomically
from ..models.settings import drop_rates
from ..modules import keep_rates
from ..plan import unit_name, units_of
from ..reports.drawing import pyplot, save
from ..reports.mixture_picture import draw_mixture
from ..running.loading import Data, Loaded, check_whole, data_fingerprint, load_data
from ..running.measures import tokens
from ..version import __version__
from .codes import (
    CodeLengths,
    Hypotheses,
    code_lengths,
    every_sub_network,
    expected_code_length,
    log_posterior,
    prefix_lengths,
    sampled_sub_networks,
    weight_within,
)
from .sub_networks import Parts, Scores, table_bytes, walk

FORMAT = "fairseq-layerdrop mixture"
DEFAULT_RATE = 0.2
BIT = math.log(2)  # nats
# Of the full network's KL ball, in bits per token: 20 to a factor of ten.
RADII = numpy.geomspace(1e-3, 100, 101)
CODES = {
    "full": "full network",
    "best": "best sub-network",
    "static": "static average",
    "mixture": "Bayes mixture",
    "map": "MAP sub-network",
    "bound": "bound",
}


def prior_of(loaded: Loaded, stacks: str, rate: float | None = None) -> tuple[dict, str]:
    """The LayerDrop rate of each layer of a model, 0 where it is never skipped, and where the rates come from.

    Where a training learned the rates, they are those at its end.

    Args:
        loaded: the model.
        stacks: whose layers may be skipped: a stack, or ``both``.
        rate: in place of the training's.

    Raises:
        UserError: the model hasn't these stacks.
    """
    if "decoder" not in loaded.structure:
        raise UserError("mixture is for language models and translation models; this one has no decoder")
    names = tuple(loaded.structure) if stacks == "both" else (stacks,)
    if not set(names) <= set(loaded.structure):
        raise UserError(f"this model has no {stacks}, only {' and '.join(loaded.structure)}")
    rates, sources = {unit: 0.0 for unit in units_of(loaded.structure, sublayers=False)}, []
    for stack in names:
        depth = len(loaded.structure[stack])
        own = drop_rates(loaded.settings.model, stack, depth).layers
        if stack in loaded.importance:
            importance = torch.tensor(loaded.importance[stack], dtype=torch.float64)
            own = tuple((1 - keep_rates(importance, depth - sum(own))).tolist())
        if rate is not None:
            own, source = (rate,) * depth, "given"
        elif any(own):
            source = "of the training"
        else:
            own, source = (DEFAULT_RATE,) * depth, "default"
        rates.update({(stack, number, None): own_rate for number, own_rate in enumerate(own)})
        sources.append(source)
    return rates, " and ".join(dict.fromkeys(sources))


def _hypotheses(rates: Sequence[float], count: int, exact_up_to: int, masks: int, seed: int, memory: int) -> Hypotheses:
    """The sub-networks to look at.

    Raises:
        UserError: their log-probabilities of *count* tokens would take more than the memory.
    """
    free = sum(rate > 0 for rate in rates)
    sampled = sampled_sub_networks(rates, masks, seed) if free > exact_up_to else None
    number = 2**free if sampled is None else len(sampled)
    size = tqdm.format_sizeof(table_bytes(number, count), "B", 1024)
    if table_bytes(number, count) > memory:
        raise UserError(
            f"the log-probabilities of {number:,} sub-networks for {count:,} tokens take {size}; look at fewer "
            "(--sentences, --exact-up-to, --masks) or allow more (--memory)"
        )
    print(f"{number:,} sub-networks, {count:,} tokens: their log-probabilities take {size}", file=sys.stderr)
    return every_sub_network(rates) if sampled is None else sampled


def _summary(hypotheses: Hypotheses, scores: Scores, codes: CodeLengths, names: Sequence[str]) -> dict:
    """What is written of a model, code lengths in bits."""
    count = len(codes.full)
    lengths = prefix_lengths(count)
    expected, gap = expected_code_length(codes.totals, hypotheses.log_weights)
    posterior = log_posterior(codes.totals, hypotheses.log_weights)
    best, likeliest = int(codes.best_mask[-1]), int(posterior.argmax())
    weights, errors = weight_within(scores.kl / BIT, hypotheses, RADII)
    ball = {"epsilon": RADII, "weight": weights, "standard_error": errors}

    def dropped(mask: int) -> list[str]:
        return [name for name, kept in zip(names, hypotheses.kept[mask]) if not kept]

    return {
        "bits_per_token": {name: float(getattr(codes, name)[-1]) / count / BIT for name in CODES},
        "best": {"without": dropped(best), "prior_bits": float(-hypotheses.log_weights[best]) / BIT},
        "map": {
            "without": dropped(likeliest),
            "prior_bits": float(-hypotheses.log_weights[likeliest]) / BIT,
            "bits_per_token": float(codes.totals[likeliest]) / count / BIT,
            "posterior": math.exp(posterior[likeliest]),
        },
        "regret_bits": float(codes.regret[-1]) / BIT,
        "regret_bound_bits": float(-hypotheses.log_weights[best]) / BIT,
        "expected_bits_per_token": expected / count / BIT,
        "kl_prior_posterior_bits_per_token": gap / count / BIT,
        "curves": {
            "tokens": lengths.tolist(),
            **{name: (getattr(codes, name)[lengths - 1] / lengths / BIT).tolist() for name in CODES},
            "regret_bits": (codes.regret[lengths - 1] / BIT).tolist(),
            "regret_bound_bits": (-hypotheses.log_weights[codes.best_mask[lengths - 1]] / BIT).tolist(),
        },
        "ball": {name: None if values is None else values.tolist() for name, values in ball.items()},
    }


def _measure(
    path: str, name: str, data: Data, folder: Path, stacks: str, rate: float | None, exact_up_to: int, masks: int,
    seed: int,
) -> tuple[dict, Parts]:  # fmt: skip
    """Load a checkpoint, run all its sub-networks, and sum up."""
    loaded, samples = load_data(path, data)
    check_whole(loaded, data.subset, samples, data.sentences)
    rates, source = prior_of(loaded, stacks, rate)
    count = sum(tokens(sample, loaded.pad) for sample in samples)
    hypotheses = _hypotheses(tuple(rates.values()), count, exact_up_to, masks, seed, data.memory)
    described = {
        "name": name, "fingerprint": loaded.fingerprint, "overrides": data.overrides,
        "data": data_fingerprint(samples), "subset": data.subset, "tokens": count, "stacks": stacks,
        "prior": source, "rates": {unit_name(unit): rate for unit, rate in rates.items() if rate},
        "sub_networks": len(hypotheses), "draws": hypotheses.draws,
        "seed": None if hypotheses.draws is None else seed,
        "device": next(loaded.model.parameters()).device.type, "version": __version__,
    }  # fmt: skip
    parts = Parts(folder, {key: value for key, value in described.items() if key != "name"})
    scores = walk(loaded.model, loaded.structure, samples, hypotheses, loaded.pad, parts, data.memory)
    codes = code_lengths(scores.log_probs, scores.full, hypotheses.log_weights)
    return {**described, **_summary(hypotheses, scores, codes, [unit_name(unit) for unit in rates])}, parts


def mixture(
    paths: Mapping[str, str], data: Data, output, stacks: str = "decoder", rate: float | None = None,
    exact_up_to: int = 12, masks: int = 1000, seed: int = 1, keep_parts: bool = False, force: bool = False,
) -> dict:  # fmt: skip
    """Compute code lengths and regret of the mixture over sub-networks, and write ``mixture.json``, .png and .svg.

    Args:
        paths: checkpoints by the names of their models.
        data: what to run them on.
        output: folder for the results. Scores of each batch are noted there too, and a run started again goes on.
        stacks: whose layers may be skipped: ``encoder``, ``decoder`` or ``both``.
        rate: LayerDrop rate of the prior; None for that of each checkpoint's training, or 0.2.
        exact_up_to: look at all sub-networks of up to so many layers, and draw some of more.
        masks: how many to draw then.
        seed: of these draws.
        keep_parts: leave the scores of each batch in the folder ``parts``.
        force: replace an existing ``mixture.json``.

    Returns:
        what ``mixture.json`` says.

    Raises:
        UserError: an argument, a checkpoint or the data is wrong, or the folder has results of another run.
    """
    output = Path(output)
    result = output / "mixture.json"
    if rate is not None and not 0 < rate < 1:
        raise UserError(f"--rate must be above 0 and below 1, not {rate:g}")
    if seed < 0:
        raise UserError("--seed must be at least 0")
    if result.exists() and not force:
        raise UserError(f"{result} exists; give another folder, or --force to replace it")
    pyplot()  # tell of a missing matplotlib before hours of work
    measured = [
        _measure(path, name, data, output / "parts" / str(number), stacks, rate, exact_up_to, masks, seed)
        for number, (name, path) in enumerate(paths.items())
    ]
    models = [model for model, _ in measured]
    found = {"format": FORMAT, "version": 1, "models": models}
    save({"mixture": draw_mixture(models)}, output)
    with write_atomically(result) as file:  # last: where it is there, all is done
        file.write(json.dumps(found, indent=1).encode() + b"\n")
    if not keep_parts:
        for _, parts in measured:
            parts.remove()
        with suppress(OSError):  # something else is in it
            (output / "parts").rmdir()
    return found
