"""``fairseq-layerdrop average CKPT … -o OUT``."""

from pathlib import Path

from ..base.errors import UserError
from ..surgery import average_checkpoints, last_epochs, save_checkpoint

HELP = "average the weights of checkpoints"


def add_arguments(parser) -> None:
    parser.add_argument(
        "checkpoints", metavar="CKPT", nargs="+", help="checkpoints, or with --last the folder of a run"
    )
    parser.add_argument("--last", type=int, metavar="N", help="take the N newest epoch checkpoints of the folder")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="checkpoint to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(args) -> None:
    paths = [Path(path) for path in args.checkpoints]
    if args.last is not None:
        if len(paths) != 1 or args.last < 1:
            raise UserError("--last wants a number of at least 1 and one folder")
        if not paths[0].is_dir():
            raise UserError(f"no such folder: {paths[0]}")
        paths = last_epochs(paths[0], args.last)
    output = Path(args.output)
    if any(output.exists() and path.exists() and output.samefile(path) for path in paths):
        raise UserError(f"{output} is one of the checkpoints to average; give another name")
    if output.exists() and not args.force:
        raise UserError(f"{output} exists; give another name, or --force to replace it")
    save_checkpoint(average_checkpoints(paths), output)
    print(f"wrote {output}: the average of {', '.join(path.name for path in paths)}")
