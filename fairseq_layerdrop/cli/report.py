"""``fairseq-layerdrop report DIR -o report.html``."""

from pathlib import Path

from ..base.errors import UserError
from ..base.files import write_atomically
from ..reports.page import page
from ..reports.points import read_sweep

HELP = "write a page that shows a sweep: table, charts and the choice for a budget; needs no network"


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of a sweep")
    parser.add_argument("-o", "--output", metavar="FILE", help="page to write (default: DIR/report.html)")
    parser.add_argument("--title", default="What pruning costs", help="heading of the page")


def run(args) -> None:
    sweep = read_sweep(args.folder)
    output = Path(args.output or Path(args.folder) / "report.html")
    if output.suffix != ".html":
        raise UserError(f"{output} must be named .html")
    with write_atomically(output) as file:
        file.write(page(sweep, args.title).encode())
    print(f"wrote {output}: {len(sweep.points)} points")
