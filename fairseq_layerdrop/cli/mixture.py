"""``fairseq-layerdrop mixture DATA --path CKPT [CKPT …] -o DIR``."""

import argparse
import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
import torch
from tqdm import tqdm

from ..analysis.mixture import (
    CodeLengths,
    Hypotheses,
    Parts,
    Scores,
    code_lengths,
    every_sub_network,
    expected_code_length,
    log_posterior,
    prefix_lengths,
    sampled_sub_networks,
    table_bytes,
    walk,
    weight_within,
)
from ..base.errors import UserError
from ..base.files import write_atomically
from ..models.settings import drop_rates
from ..modules import keep_rates
from ..plan import STACKS, unit_name, units_of
from ..reports.drawing import pyplot, save
from ..reports.mixture_picture import draw_mixture
from ..running.loading import Loaded, check_whole, data_fingerprint
from ..running.measures import tokens
from ..version import __version__
from .data_flags import add_data_arguments, add_paths_argument, at_least_one, load_data, named_checkpoints

HELP = "code lengths and regret of the Bayesian mixture over all sub-networks that LayerDrop can draw"
FORMAT = "fairseq-layerdrop mixture"
DEFAULT_RATE = 0.2
BIT = math.log(2)  # nats
# Of the full network's KL ball, in bits per token: 20 to a factor of ten.
RADII = numpy.geomspace(1e-3, 100, 101)
SHOWN_RADII = (0.01, 0.1, 1.0)
CODES = {
    "full": "full network",
    "best": "best sub-network",
    "static": "static average",
    "mixture": "Bayes mixture",
    "map": "MAP sub-network",
    "bound": "bound",
}


def add_arguments(parser) -> None:
    add_data_arguments(parser)
    add_paths_argument(parser)
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder for mixture.json, .png and .svg")
    parser.add_argument(
        "--stacks", choices=(*STACKS, "both"), default="decoder", help="which layers may be skipped (default: decoder)"
    )
    parser.add_argument(
        "--rate", type=float, metavar="P",
        help=f"LayerDrop rate of the prior (default: that of the checkpoint's training, or {DEFAULT_RATE})",
    )  # fmt: skip
    parser.add_argument(
        "--exact-up-to", type=int, default=12, metavar="N",
        help="look at all sub-networks of up to N layers, and draw some of more (default: 12)",
    )  # fmt: skip
    parser.add_argument("--masks", type=int, default=1000, metavar="N", help="how many to draw then (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of these draws (default: 1)")
    parser.add_argument("--keep-parts", action="store_true", help="leave the scores of each batch in DIR/parts")
    parser.add_argument("--force", action="store_true", help="replace DIR/mixture.json if it exists")


def _prior(args, loaded: Loaded) -> tuple[dict, str]:
    """The LayerDrop rate of each layer of the model, 0 where it is never skipped, and where the rates come from.

    Where a training learned the rates, they are those at its end.

    Raises:
        UserError: the model hasn't these stacks.
    """
    if "decoder" not in loaded.structure:
        raise UserError("mixture is for language models and translation models; this one has no decoder")
    stacks = tuple(loaded.structure) if args.stacks == "both" else (args.stacks,)
    if not set(stacks) <= set(loaded.structure):
        raise UserError(f"this model has no {args.stacks}, only {' and '.join(loaded.structure)}")
    rates, sources = {unit: 0.0 for unit in units_of(loaded.structure, sublayers=False)}, []
    for stack in stacks:
        depth = len(loaded.structure[stack])
        own = drop_rates(loaded.settings.model, stack, depth).layers
        if stack in loaded.importance:
            own = (
                1 - keep_rates(torch.tensor(loaded.importance[stack], dtype=torch.float64), depth - sum(own))
            ).tolist()
        if args.rate is not None:
            own, source = (args.rate,) * depth, "given"
        elif any(own):
            source = "of the training"
        else:
            own, source = (DEFAULT_RATE,) * depth, "default"
        rates.update({(stack, number, None): rate for number, rate in enumerate(own)})
        sources.append(source)
    return rates, " and ".join(dict.fromkeys(sources))


def _hypotheses(args, rates: Sequence[float], count: int) -> Hypotheses:
    """The sub-networks to look at.

    Raises:
        UserError: their log-probabilities of *count* tokens would take more than the memory.
    """
    free = sum(rate > 0 for rate in rates)
    if free > args.exact_up_to:
        hypotheses = sampled_sub_networks(rates, args.masks, args.seed)
        masks = len(hypotheses)
    else:
        hypotheses, masks = None, 2**free
    size = tqdm.format_sizeof(table_bytes(masks, count), "B", 1024)
    if table_bytes(masks, count) > args.memory:
        raise UserError(
            f"the log-probabilities of {masks:,} sub-networks for {count:,} tokens take {size}; look at fewer "
            "(--sentences, --exact-up-to, --masks) or allow more (--memory)"
        )
    print(f"{masks:,} sub-networks, {count:,} tokens: their log-probabilities take {size}", flush=True)
    return hypotheses or every_sub_network(rates)


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


def _measure(args, path: str, name: str, folder: Path) -> tuple[dict, Parts]:
    """Load a checkpoint, run all its sub-networks, and sum up."""
    loaded, samples = load_data(argparse.Namespace(**{**vars(args), "path": path}))
    check_whole(loaded, args.gen_subset, samples, args.sentences)
    rates, source = _prior(args, loaded)
    count = sum(tokens(sample, loaded.pad) for sample in samples)
    hypotheses = _hypotheses(args, tuple(rates.values()), count)
    exact = hypotheses.draws is None
    described = {
        "name": name, "fingerprint": loaded.fingerprint, "overrides": args.model_overrides,
        "data": data_fingerprint(samples), "subset": args.gen_subset, "tokens": count, "stacks": args.stacks,
        "prior": source, "rates": {unit_name(unit): rate for unit, rate in rates.items() if rate},
        "sub_networks": len(hypotheses), "draws": hypotheses.draws, "seed": None if exact else args.seed,
        "device": next(loaded.model.parameters()).device.type, "version": __version__,
    }  # fmt: skip
    parts = Parts(folder, {key: value for key, value in described.items() if key != "name"})
    scores = walk(loaded.model, loaded.structure, samples, hypotheses, loaded.pad, parts, args.memory)
    codes = code_lengths(scores.log_probs, scores.full, hypotheses.log_weights)
    told = {**described, **_summary(hypotheses, scores, codes, [unit_name(unit) for unit in rates])}
    _show(told, hypotheses, *weight_within(scores.kl / BIT, hypotheses, SHOWN_RADII))
    return told, parts


def _show(model: Mapping, hypotheses: Hypotheses, weights: numpy.ndarray, errors: numpy.ndarray | None) -> None:
    rates = sorted(set(model["rates"].values()))
    span = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g} to {rates[-1]:g}"
    how = "all" if hypotheses.draws is None else f"sampled, {hypotheses.draws:,} draws: estimates"
    print(f"{model['name']}: prior LayerDrop {span} ({model['prior']}); sub-networks: {how}")
    for code, words in CODES.items():
        chosen = model["best"]["without"] if code == "best" else ()
        without = f"  without {', '.join(chosen)}" if chosen else ""
        print(f"  {words:18}{model['bits_per_token'][code]:9.4f} bits per token{without}")
    print(f"  regret {model['regret_bits']:.2f} bits in all, at most {model['regret_bound_bits']:.2f}")
    print(
        f"  mean over the prior {model['expected_bits_per_token']:.4f} bits per token, "
        f"KL(prior || posterior) {model['kl_prior_posterior_bits_per_token']:.4f}"
    )
    told = [""] * len(weights) if errors is None else [f" ± {error:.4f}" for error in errors]
    for radius, weight, error in zip(SHOWN_RADII, weights, told):
        print(f"  prior weight within {radius:g} bits per token of the full network: {weight:.4f}{error}")


def run(args) -> None:
    at_least_one(args, "exact_up_to", "masks")
    if args.rate is not None and not 0 < args.rate < 1:
        raise UserError(f"--rate must be above 0 and below 1, not {args.rate:g}")
    if args.seed < 0:
        raise UserError("--seed must be at least 0")
    named = named_checkpoints(args.path)
    output = Path(args.output)
    result = output / "mixture.json"
    if result.exists() and not args.force:
        raise UserError(f"{result} exists; give another folder, or --force to replace it")
    pyplot()  # tell of a missing matplotlib before hours of work
    measured, every = [], []
    for number, (name, path) in enumerate(named.items()):
        told, parts = _measure(args, path, name, output / "parts" / str(number))
        measured.append(told)
        every.append(parts)
    written = [result, *save({"mixture": draw_mixture(measured)}, output)]
    with write_atomically(result) as file:  # last: where it is there, all is done
        file.write(json.dumps({"format": FORMAT, "version": 1, "models": measured}, indent=1).encode() + b"\n")
    if not args.keep_parts:
        for parts in every:
            parts.remove()
        with contextlib.suppress(OSError):  # something else is in it
            (output / "parts").rmdir()
    print(f"wrote {', '.join(map(str, written))}")
