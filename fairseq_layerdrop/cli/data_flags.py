"""What the verbs that look at data share: their flags, and the model and data that these name."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import UserError
from ..running.settings import GENERATION

if TYPE_CHECKING:
    from ..running.loading import Data


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size like 512M or 2G")
    return int(match[1]) * 1024 ** " KMG".index(match[2] or " ")


def add_generation_arguments(parser) -> None:
    """Add the flags of fairseq's generator that are read here, and how subwords are joined."""
    parser.add_argument(
        "--remove-bpe",
        "--post-process",
        nargs="?",
        const="subword_nmt",
        metavar="HOW",
        help="how to join subwords, as in fairseq-generate: sentencepiece, subword_nmt, …",
    )
    for name, (kind, default, words) in GENERATION.items():
        reads = {"action": "store_true"} if kind is bool else {"type": kind, "metavar": "N"}
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=words, **reads)


def add_data_arguments(parser, stores: bool = True) -> None:
    """Add the flags that say which data to look at, and how.

    Args:
        parser: where to add them.
        stores: whether the verb stores hidden states.
    """
    parser.add_argument("data", metavar="DATA", help="folder of binarised data")
    parser.add_argument(
        "--gen-subset", "--subset", default="valid", metavar="SUBSET", help="subset to look at (default: valid)"
    )
    parser.add_argument(
        "--sentences", type=int, metavar="N", help="look at the first N sentences, or blocks, of the subset only"
    )
    parser.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of a batch (default: 4000)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="most sentences of a batch")
    if stores:
        parser.add_argument(
            "--memory", type=_bytes, default="1G", metavar="SIZE", help="memory for stored hidden states (default: 1G)"
        )
    parser.add_argument(
        "--model-overrides",
        default="{}",
        metavar="DICT",
        help="settings of the checkpoint to override, as in fairseq-generate",
    )
    parser.add_argument("--user-dir", help="plugin to import first, if the checkpoint's task is not one of ours")
    parser.add_argument("--cpu", action="store_true", help="leave the GPU alone")


def named_checkpoints(given: Sequence[str]) -> dict[str, str]:
    """The checkpoints of ``--path [NAME=]CKPT …`` by name; by default that of a checkpoint's folder.

    Raises:
        UserError: two have one name.
    """
    named: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            name, path = Path(text).absolute().parent.name, text
        if name in named:
            raise UserError(f"two models are called {name}; name them, --path NAME=CKPT")
        named[name] = path
    return named


def add_paths_argument(parser) -> None:
    """Add ``--path`` for :func:`named_checkpoints`."""
    parser.add_argument(
        "--path", metavar="[NAME=]CKPT", nargs="+", required=True,
        help="checkpoints of full models, for instance with LayerDrop and without, each with a name for the pictures "
        "(default: that of its folder)",
    )  # fmt: skip


def at_least_one(args, *names: str) -> None:
    """Check the options that are numbers.

    Raises:
        UserError: one is given and below 1.
    """
    for name in names:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")


def data_of(args) -> "Data":
    """The data that :func:`add_data_arguments`'s flags name; fairseq is told to be quiet.

    Raises:
        UserError: a number is below 1.
    """
    from ..running.loading import Data, be_quiet

    be_quiet()
    at_least_one(args, "sentences", "max_tokens", "batch_size")
    return Data(
        args.data, args.gen_subset, args.sentences, args.max_tokens, args.batch_size, getattr(args, "memory", 0),
        args.model_overrides, args.user_dir, args.cpu,
    )  # fmt: skip
