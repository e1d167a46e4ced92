"""Reading raw text files, plain or gzipped, with checks."""

import argparse
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm


class CorpusError(SystemExit):
    """A raw corpus that is missing or broken; ends the program with one line."""


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, without their ends; a progress bar shows on a terminal.

    Only line feeds end lines, as for fairseq and for SentencePiece. A name that ends in ``.gz`` is unzipped.

    Raises:
        CorpusError: the file is missing, isn't UTF-8, or ends too early.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(f"no such file: {path}")
    done = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in tqdm(file, desc=path.name, unit=" lines", disable=None):
                text = line.decode("utf-8").rstrip("\r\n")
                done += 1
                yield text
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}, line {done + 1}: not UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"{path}, after line {done}: broken or incomplete gzip file") from error


def check_folder(raw: Path, wanted: str) -> None:
    """Check that the raw data has a folder.

    Raises:
        CorpusError: it has none; the message says what should be in it.
    """
    if not raw.is_dir():
        raise CorpusError(f"no such folder: {raw}; it should hold {wanted}")


def add_items_argument(parser: argparse.ArgumentParser) -> None:
    """``--items N``, for trying a recipe out."""
    parser.add_argument("--items", type=int, metavar="N", help="read the first N items of each split at most")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write text lines, each with a line feed."""
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
