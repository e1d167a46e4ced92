"""``fairseq-layerdrop import FOLDER -o OUT``."""
# ruff: noqa: N999 - called as the verb is; nothing names it in an import


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a local folder of transformers: settings, weights, tokenizer")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the folder to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is an imported model")


def run(args) -> None:
    from .. import import_model

    first, *more = import_model(args.folder, args.output, args.force)
    print("\n".join([f"wrote {args.output}: {first}", *more]))
