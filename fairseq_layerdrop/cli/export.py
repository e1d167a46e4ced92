"""``fairseq-layerdrop export CKPT -o OUT``."""

import signal
import sys
from pathlib import Path

from ..plan import UserError, parse, write_plan
from ..surgery import (
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
        "--quantization", metavar="TYPE", help="for ctranslate2: int8, int8_float32, float16, …; default: as trained"
    )


def _check_output(args) -> None:
    output, source = Path(args.output), Path(args.checkpoint)
    if not output.exists():
        return
    if source.exists() and output.samefile(source):
        raise UserError(f"OUT is the checkpoint itself, {source}; give another name")
    is_model = (output / "model.bin").is_file() if args.format == "ctranslate2" else output.is_file()
    if not is_model:
        kind = "CTranslate2 model" if args.format == "ctranslate2" else "file"
        raise UserError(f"{output} exists and is not a {kind}; give another name")
    if not args.force:
        raise UserError(f"{output} exists; give another name, or --force to replace it")


def run(args) -> None:
    if args.format != "ctranslate2" and (args.data or args.quantization):
        raise UserError("--data and --quantization are for --format ctranslate2")
    spec = parse(args.prune_layers) if args.prune_layers is not None else None
    _check_output(args)
    checkpoint = load_checkpoint(args.checkpoint)
    plan = plan_for(checkpoint, spec, args.ema)
    if args.format == "plan":
        weights = weights_of(checkpoint, args.ema)
        origin = {"spec": args.prune_layers, "checkpoint": fingerprint(weights), "version": __version__}
        write_plan(plan, args.output, origin)
        print(f"wrote {args.output}: {plan}")
        return
    settings = pruned_settings(checkpoint, plan)
    if args.format == "ctranslate2":
        settings = settings_for_ctranslate2(settings, args.data, args.quantization)
    exported = export_checkpoint(checkpoint, plan, Path(args.checkpoint).name, args.ema)
    if args.format == "ctranslate2":
        # Asked to end, clear the unfinished directory away.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            convert_to_ctranslate2(exported, settings, args.output, args.quantization)
        finally:
            signal.signal(signal.SIGTERM, before)
    else:
        save_checkpoint(exported, args.output)
    print(f"wrote {args.output}: {plan}; architecture {settings.arch}")
