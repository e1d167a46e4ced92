"""``fairseq-layerdrop average CKPT … -o OUT``."""

from pathlib import Path


def add_arguments(parser) -> None:
    parser.add_argument(
        "checkpoints", metavar="CKPT", nargs="+", help="checkpoints, or with --last the folder of a run"
    )
    parser.add_argument("--last", type=int, metavar="N", help="average the N newest epoch checkpoints of the folder")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="checkpoint to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(args) -> None:
    from .. import average

    paths = average(args.checkpoints, args.output, args.last, args.force)
    print(f"wrote {Path(args.output)}: the average of {', '.join(path.name for path in paths)}")
