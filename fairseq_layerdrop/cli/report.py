"""``fairseq-layerdrop report DIR -o report.html``."""


def add_arguments(parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of a sweep")
    parser.add_argument("-o", "--output", metavar="FILE", help="page to write (default: DIR/report.html)")
    parser.add_argument("--title", default="What pruning costs", help="heading of the page")


def run(args) -> None:
    from ..reports.page import report

    print(f"wrote {report(args.folder, args.output, args.title)}")
