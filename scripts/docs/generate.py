"""Put the measured numbers and tables into README.md and docs/.

    python scripts/docs/generate.py            write them
    python scripts/docs/generate.py --check    tell which files are out of date; exit status 1 if any is

A number in a sentence stands before the expression that gives it, ``34.3<!--= bleu("layerdrop", 6, 3) -->``; tables are
in blocks of cog. Both use the functions of ``measured.py``.
"""

import argparse
import re
import sys
from pathlib import Path

import measured
from cogapp import Cog

PAGES = [measured.ROOT / "README.md", *sorted((measured.ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"(-?\d[\d,]*(?:\.\d+)?)(<!--= (.+?) -->)")


def _text(value) -> str:
    return value if isinstance(value, str) else f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def with_numbers(text: str) -> str:
    """*text* with every number that names its expression as that gives it."""
    return NUMBER.sub(lambda match: _text(eval(match[3], vars(measured))) + match[2], text)


def generate(page: Path, check: bool) -> bool:
    """Bring *page* up to date; with *check* only tell whether it is."""
    before = page.read_text(encoding="utf-8")
    cog = Cog()
    cog.options.prologue, cog.options.print_output = "from measured import *", True
    after = with_numbers(cog.process_string(before, str(page)))
    if after != before and not check:
        page.write_text(after, encoding="utf-8")
    return after == before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is out of date")
    args = parser.parse_args()
    stale = [page.relative_to(measured.ROOT) for page in PAGES if not generate(page, args.check)]
    for page in stale:
        print(f"{page} {'is out of date: python scripts/docs/generate.py' if args.check else 'written'}")
    sys.exit(args.check and bool(stale))


if __name__ == "__main__":
    main()
