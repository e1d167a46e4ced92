"""``fairseq-layerdrop select DATA --path CKPT --method METHOD``."""

import argparse
import json
import os
import re
import time
from collections.abc import Iterator

from ..evaluation import add_word_arguments
from ..plan import STACKS, Ladder, unit_name
from ..running.settings import SETTINGS
from ..selection.methods import METHODS
from .data_flags import add_data_arguments, add_generation_arguments, at_least_one, data_of

_OPTIONS = tuple(dict.fromkeys(name for method in METHODS.values() for name in method.options))


def _keep(text: str) -> dict[str, int]:
    found = dict(re.findall(r"(encoder|decoder)=(\d+)", text))
    if not found or ",".join(f"{stack}={count}" for stack, count in found.items()) != text:
        raise argparse.ArgumentTypeError(f"'{text}' is not like encoder=6,decoder=3")
    return {stack: int(count) for stack, count in found.items()}


def add_arguments(parser) -> None:
    parser.add_argument("--path", metavar="CKPT", required=True, help="checkpoint of the full model")
    parser.add_argument("--method", choices=METHODS, required=True, help="how to choose")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="plan or ladder to write, a .json file")
    parser.add_argument(
        "--keep", type=_keep, default={}, metavar="encoder=N,decoder=M",
        help="number of layers to keep of each stack named (of sub-layers, for methods that remove these); a stack "
        "that isn't named stays whole. Without this and --keep-total a ladder is written, down to one layer",
    )  # fmt: skip
    parser.add_argument(
        "--keep-total", type=int, metavar="N", help="number of layers, or sub-layers, to keep of all stacks together"
    )
    parser.add_argument(
        "--stacks",
        choices=(*STACKS, "both"),
        default="both",
        help="stacks from which --keep-total or a ladder may remove (default: both)",
    )
    parser.add_argument("--unit", choices=("layer", "sublayer"), help="what search removes (default: layer)")
    parser.add_argument(
        "--metric", help="what finercut (js, js-reversed, kl, angular, norm) and search (loss, bleu, rouge) score by"
    )
    parser.add_argument(
        "--protect-first",
        type=int,
        metavar="N",
        help="never remove the first N layers of a stack (default: 4 for taylor, 1 for sleb, else 0)",
    )
    parser.add_argument(
        "--protect-last",
        type=int,
        metavar="N",
        help="never remove the last N layers of a stack (default: 2 for taylor, 1 for sleb, else 0)",
    )
    parser.add_argument(
        "--protect-share",
        type=float,
        metavar="X",
        help="share of the first layers that finercut protects for a while (default: 0.4)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="contribution removes the layers whose input and output have a cosine above X",
    )
    parser.add_argument(
        "--max-plans", type=int, metavar="N", help="search scores all plans if there are at most N (default: 5000)"
    )
    parser.add_argument(
        "--beam-width",
        type=int,
        metavar="N",
        help="beam width of search when there are more than --max-plans plans (default: 8)",
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--log", metavar="FILE", help="file of scores, from which the same command goes on (default: OUT.scores)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    group = parser.add_argument_group("generation, for bleu and rouge, as in fairseq-generate")
    add_generation_arguments(group)
    add_word_arguments(group)


def _lines(selected, output: str) -> Iterator[str]:
    """What is printed of a choice."""
    for unit, score in selected.selection.removals:
        yield f"remove {unit_name(unit):24}{'' if score is None else f'{score:.6g}'}"
    if isinstance(selected.chosen, Ladder):
        stacks = {stack for (stack, *_), _ in selected.selection.removals}
        one = f"{min(stacks)}=" if len(stacks) == 1 else ""
        yield f"use: --prune-layers {one}keep:COUNT@{output}" + ("" if one else ", COUNT of both stacks together")
    else:
        metric, score = selected.origin["metric"], selected.origin["score"]
        yield f"keep {selected.chosen}{'' if score is None else f', {metric} {score:.6g}'}"
        yield f"use: --prune-layers {output}"


def run(args) -> None:
    started = time.perf_counter()
    from .. import select

    at_least_one(args, "max_plans", "beam_width")
    selected = select(
        args.path, data_of(args), args.method, args.output, keep=args.keep, keep_total=args.keep_total,
        stacks=args.stacks, unit=args.unit, metric=args.metric, protect_first=args.protect_first,
        protect_last=args.protect_last, generation={name: getattr(args, name) for name in SETTINGS},
        remove_bpe=args.remove_bpe, tokenize=args.tokenize, tokenizer=args.tokenizer, log=args.log, force=args.force,
        **{name: getattr(args, name) for name in _OPTIONS},
    )  # fmt: skip
    if int(os.environ.get("RANK", 0)) != 0:
        return
    if args.json:
        removals = [{"drop": unit_name(unit), "score": score} for unit, score in selected.selection.removals]
        print(json.dumps({"removals": removals, "origin": dict(selected.origin)}, indent=1))
        return
    print("\n".join(_lines(selected, args.output)))
    origin, ran = selected.origin, f"{selected.evaluations:,.0f} {selected.what} run, " if selected.evaluations else ""
    print(
        f"wrote {args.output}: {args.method} on {origin['tokens']:,} {selected.target}s of {origin['subset']}, "
        f"{ran}{time.perf_counter() - started:.1f} s"
    )
