"""``fairseq-layerdrop export CKPT -o OUT``."""

import contextlib
import os
import signal
import sys
from pathlib import Path

from ..plan import UserError, parse, write_plan
from ..surgery import (
    SUBLAYERS_SETTING,
    convert_to_ctranslate2,
    export_checkpoint,
    fingerprint,
    load_checkpoint,
    plan_for,
    pruned_settings,
    save_checkpoint,
    settings_for_ctranslate2,
    weights_of,
)
from ..version import __version__

HELP = "write a pruned model that stands alone, for stock fairseq or CTranslate2, or the plan to prune it"
FORMATS = ("fairseq", "ctranslate2", "plan")


def add_arguments(parser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="a fairseq checkpoint (.pt)")
    parser.add_argument(
        "--prune-layers", metavar="SPEC", help="what to keep, for instance decoder=keep:3@every_other; default: all"
    )
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="file or CTranslate2 directory to write")
    parser.add_argument("--format", choices=FORMATS, default="fairseq", help="default: fairseq, a checkpoint (.pt)")
    parser.add_argument(
        "--ema", action="store_true", help="take the moving average of the weights that --store-ema keeps"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "--data", metavar="DIR", help="for ctranslate2: folder with the dictionaries; default: that of the training"
    )
    parser.add_argument(
        "--quantization", metavar="TYPE", help="for ctranslate2: int8, int8_float32, float16, …; default: float32"
    )


def _check_output(args) -> None:
    output = args.output
    if not os.path.exists(output):
        return
    if os.path.exists(args.checkpoint) and os.path.samefile(output, args.checkpoint):
        raise UserError(f"OUT is the checkpoint itself, {output}; give another name")
    if args.format == "ctranslate2":
        names = os.listdir(output) if os.path.isdir(output) else []
        others = [name for name in names if name not in ("model.bin", "config.json") and "vocabulary" not in name]
        if "model.bin" not in names or others:
            raise UserError(f"{output} exists and is not, or not only, a CTranslate2 model; give another name")
    elif not os.path.isfile(output):
        raise UserError(f"{output} exists and is not a file; give another name")
    if not args.force:
        raise UserError(f"{output} exists; give another name, or --force to replace it")


@contextlib.contextmanager
def _exit_on(*signals):
    """Let these signals end the program as an exception does, so that what is unfinished is cleared away."""
    before = {number: signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(args) -> None:
    if args.format != "ctranslate2" and (args.data or args.quantization):
        raise UserError("--data and --quantization are for --format ctranslate2")
    spec = parse(args.prune_layers) if args.prune_layers is not None else None
    _check_output(args)
    checkpoint = load_checkpoint(args.checkpoint)
    plan = plan_for(checkpoint, spec, args.ema)
    if args.format == "plan":
        weights = weights_of(checkpoint, args.ema)
        origin = {
            "spec": args.prune_layers,
            "checkpoint": fingerprint(weights),
            "ema": args.ema,
            "version": __version__,
        }
        write_plan(plan, args.output, origin)
        print(f"wrote {args.output}: {plan}")
        return
    settings = pruned_settings(checkpoint, plan, sharing=args.format != "ctranslate2")
    if args.format == "ctranslate2":
        settings = settings_for_ctranslate2(settings, args.data, args.quantization)
    exported = export_checkpoint(checkpoint, plan, Path(args.checkpoint).name, args.ema)
    if args.format == "ctranslate2":
        with _exit_on(signal.SIGTERM, signal.SIGHUP):
            convert_to_ctranslate2(exported, settings, args.output, args.quantization)
    else:
        save_checkpoint(exported, args.output)
    lacks = getattr(settings, SUBLAYERS_SETTING, None)
    print(f"wrote {args.output}: {plan}; architecture {settings.arch}" + (f", without {lacks}" if lacks else ""))
