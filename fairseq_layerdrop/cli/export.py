"""``fairseq-layerdrop export CKPT -o OUT``."""

import contextlib
import os
import signal
import sys
from pathlib import Path

from ..base.errors import UserError
from ..exports.ctranslate2 import convert_to_ctranslate2, ctranslate2_limits, settings_for_ctranslate2
from ..exports.huggingface import huggingface_model, write_huggingface
from ..plan import parse, write_plan
from ..surgery.checkpoint import load_checkpoint, save_checkpoint
from ..surgery.config import SUBLAYERS_SETTING
from ..surgery.export import export_checkpoint, plan_for, pruned_settings, weights_of
from ..surgery.history import fingerprint
from ..version import __version__

FORMATS = ("fairseq", "ctranslate2", "huggingface", "plan")
# What the formats that write a folder put there; of CTranslate2's names, vocabularies have more beside.
_FILES = {
    "ctranslate2": ("model.bin", "config.json", "limits.json"),
    "huggingface": (
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "dict.txt",
    ),
}
# The flags that only some formats take.
_FLAGS = {
    "data": ("ctranslate2", "huggingface"),
    "quantization": ("ctranslate2",),
    "classification_head_name": ("huggingface",),
    "bpe_model": ("huggingface",),
    "gpt2_bpe": ("huggingface",),
}


def add_arguments(parser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="a fairseq checkpoint (.pt)")
    parser.add_argument(
        "--prune-layers",
        metavar="SPEC",
        help="what to keep, for instance decoder=keep:3@every_other or encoder=drop:4,5; default: all",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="what to write: a file; of ctranslate2 and huggingface, a folder",
    )
    parser.add_argument("--format", choices=FORMATS, default="fairseq", help="default: fairseq, a checkpoint (.pt)")
    parser.add_argument(
        "--ema", action="store_true", help="take the moving average of the weights that --store-ema keeps"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="for ctranslate2 and huggingface: folder with the dictionaries; default: that of the training",
    )
    parser.add_argument(
        "--quantization", metavar="TYPE", help="for ctranslate2: int8, int8_float32, float16, …; default: float32"
    )
    huggingface = parser.add_argument_group("for huggingface")
    huggingface.add_argument(
        "--classification-head-name", metavar="NAME", help="the head of a classifier; default: the only one"
    )
    bpe = huggingface.add_mutually_exclusive_group()
    bpe.add_argument("--bpe-model", metavar="FILE", help="the SentencePiece model that cut the text into pieces")
    bpe.add_argument("--gpt2-bpe", metavar="DIR", help="the folder of the encoder.json and vocab.bpe that did so")


def _check_output(args) -> None:
    output = args.output
    if not os.path.exists(output):
        return
    if os.path.exists(args.checkpoint) and os.path.samefile(output, args.checkpoint):
        raise UserError(f"OUT is the checkpoint itself, {output}; give another name")
    if args.format in _FILES:
        names, known = os.listdir(output) if os.path.isdir(output) else [], _FILES[args.format]
        others = [name for name in names if name not in known and "vocabulary" not in name]
        if known[0] not in names or others:
            what = "a CTranslate2 model" if args.format == "ctranslate2" else "an exported model for transformers"
            raise UserError(f"{output} exists and is not, or not only, {what}; give another name")
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
    for flag, formats in _FLAGS.items():
        if getattr(args, flag) is not None and args.format not in formats:
            raise UserError(f"--{flag.replace('_', '-')} is for --format {' and '.join(formats)}")
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
    settings = pruned_settings(checkpoint, plan, sharing=args.format not in _FILES)
    if args.format == "ctranslate2":
        settings = settings_for_ctranslate2(settings, args.data, args.quantization)
    elif args.format == "huggingface":
        model = huggingface_model(
            settings, checkpoint["model"], args.data, args.classification_head_name, args.bpe_model, args.gpt2_bpe
        )
    exported = export_checkpoint(checkpoint, plan, Path(args.checkpoint).name, args.ema)
    architecture = settings.arch
    with _exit_on(signal.SIGTERM, signal.SIGHUP) if args.format in _FILES else contextlib.nullcontext():
        if args.format == "ctranslate2":
            convert_to_ctranslate2(exported, settings, args.output, args.quantization)
        elif args.format == "huggingface":
            write_huggingface(exported, model, args.output)
            [architecture] = model.config["architectures"]
        else:
            save_checkpoint(exported, args.output)
    lacks = getattr(settings, SUBLAYERS_SETTING, None)
    print(f"wrote {args.output}: {plan}; architecture {architecture}" + (f", without {lacks}" if lacks else ""))
    if args.format == "ctranslate2":
        calls = (
            f"{call}({', '.join(f'{name}={limit}' for name, limit in limits.items())})"
            for call, limits in ctranslate2_limits(settings).items()
        )
        print(f"its limits, which CTranslate2 wants to be told at each call (limits.json): {', '.join(calls)}")
