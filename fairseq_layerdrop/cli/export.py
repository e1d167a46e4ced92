"""``fairseq-layerdrop export CKPT -o OUT``."""

from ..exports.formats import FORMATS


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
    parser.add_argument("--user-dir", help="plugin to import first, if the architecture or the task is of one")
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
    huggingface.add_argument(
        "--imported",
        metavar="DIR",
        help="the folder that import wrote: the model goes back to its class, with its tokenizer; default: that of the "
        "dictionaries, if it is one",
    )
    bpe = huggingface.add_mutually_exclusive_group()
    bpe.add_argument("--bpe-model", metavar="FILE", help="the SentencePiece model that cut the text into pieces")
    bpe.add_argument("--gpt2-bpe", metavar="DIR", help="the folder of the encoder.json and vocab.bpe that did so")


def run(args) -> None:
    from .. import export
    from ..running.loading import import_user_dir

    import_user_dir(args.user_dir)
    first, *more = export(
        args.checkpoint, args.output, args.prune_layers, args.format, args.ema, args.force, data=args.data,
        quantization=args.quantization, classification_head_name=args.classification_head_name,
        bpe_model=args.bpe_model, gpt2_bpe=args.gpt2_bpe, imported=args.imported,
    )  # fmt: skip
    print("\n".join([f"wrote {args.output}: {first}", *more]))
