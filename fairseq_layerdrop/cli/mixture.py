"""``fairseq-layerdrop mixture DATA --path CKPT [CKPT …] -o DIR``."""

import json
from collections.abc import Iterator, Mapping

from ..plan import STACKS
from .data_flags import add_data_arguments, add_paths_argument, at_least_one, data_of, named_checkpoints

# Radii of the full network's ball that are printed, in bits per token.
_RADII = (0.01, 0.1, 1.0)


def add_arguments(parser) -> None:
    add_data_arguments(parser)
    add_paths_argument(parser)
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder for mixture.json, .png and .svg")
    parser.add_argument(
        "--stacks", choices=(*STACKS, "both"), default="decoder", help="which layers may be skipped (default: decoder)"
    )
    parser.add_argument(
        "--rate", type=float, metavar="P",
        help="LayerDrop rate of the prior (default: that of the checkpoint's training, or 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--exact-up-to", type=int, default=12, metavar="N",
        help="look at all sub-networks of models with at most N layers, and draw --masks of larger ones (default: 12)",
    )  # fmt: skip
    parser.add_argument(
        "--masks", type=int, default=1000, metavar="N", help="number of sub-networks to draw (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the drawn sub-networks (default: 1)")
    parser.add_argument("--keep-parts", action="store_true", help="leave the scores of each batch in DIR/parts")
    parser.add_argument("--force", action="store_true", help="replace DIR/mixture.json if it exists")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _lines(model: Mapping) -> Iterator[str]:
    """What is printed of a model."""
    from ..analysis.mixture import CODES

    rates = sorted(set(model["rates"].values()))
    span = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g} to {rates[-1]:g}"
    how = "all" if model["draws"] is None else f"sampled, {model['draws']:,} draws: estimates"
    yield f"{model['name']}: prior LayerDrop {span} ({model['prior']}); sub-networks: {how}"
    for code, words in CODES.items():
        chosen = model["best"]["without"] if code == "best" else ()
        without = f"  without {', '.join(chosen)}" if chosen else ""
        yield f"  {words:18}{model['bits_per_token'][code]:9.4f} bits per token{without}"
    yield f"  regret {model['regret_bits']:.2f} bits in all, at most {model['regret_bound_bits']:.2f}"
    yield (
        f"  mean over the prior {model['expected_bits_per_token']:.4f} bits per token, "
        f"KL(prior || posterior) {model['kl_prior_posterior_bits_per_token']:.4f}"
    )
    ball = model["ball"]
    for radius in _RADII:
        place = min(range(len(ball["epsilon"])), key=lambda number: abs(ball["epsilon"][number] - radius))
        error = "" if ball["standard_error"] is None else f" ± {ball['standard_error'][place]:.4f}"
        yield (
            f"  prior weight within {radius:g} bits per token of the full network: {ball['weight'][place]:.4f}{error}"
        )


def run(args) -> None:
    from .. import mixture

    at_least_one(args, "exact_up_to", "masks")
    found = mixture(
        named_checkpoints(args.path), data_of(args), args.output, args.stacks, args.rate, args.exact_up_to, args.masks,
        args.seed, args.keep_parts, args.force,
    )  # fmt: skip
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for model in found["models"]:
        print("\n".join(_lines(model)))
    print(f"wrote {', '.join(f'{args.output}/mixture.{ending}' for ending in ('json', 'png', 'svg'))}")
