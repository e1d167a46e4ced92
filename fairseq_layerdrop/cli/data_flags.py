"""What the verbs that look at data share: their flags, and the model and data that these name."""

import argparse
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairseq import utils
from fairseq.dataclass.configs import GenerationConfig

from ..base.errors import UserError
from ..running.generation import SETTINGS
from ..running.loading import Loaded, batches, load

GENERATION = GenerationConfig.__dataclass_fields__


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size like 512M or 2G")
    return int(match[1]) * 1024 ** " KMG".index(match[2] or " ")


def add_generation_arguments(parser) -> None:
    """Add the flags of fairseq's generator that are read here, and how subwords are joined."""
    parser.add_argument(
        "--remove-bpe", "--post-process", nargs="?", const="subword_nmt", metavar="HOW", help="as in fairseq-generate"
    )
    for name in SETTINGS:
        field = GENERATION[name]
        kind = {"action": "store_true"} if field.type is bool else {"type": field.type, "metavar": "N"}
        parser.add_argument(
            f"--{name.replace('_', '-')}", default=field.default, help=field.metadata.get("help"), **kind
        )


def add_data_arguments(parser, stores: bool = True) -> None:
    """Add the flags that say which data to look at, and how.

    Args:
        parser: where to add them.
        stores: whether the verb stores hidden states.
    """
    parser.add_argument("data", metavar="DATA", help="binarised data")
    parser.add_argument("--gen-subset", "--subset", default="valid", metavar="SUBSET", help="default: valid")
    parser.add_argument("--sentences", type=int, metavar="N", help="take the first N sentences, or blocks, of it")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="tokens of a batch (default: 4000)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="sentences of a batch")
    if stores:
        parser.add_argument(
            "--memory", type=_bytes, default="1G", metavar="SIZE", help="for stored states (default: 1G)"
        )
    parser.add_argument("--model-overrides", default="{}", metavar="DICT", help="as in fairseq-generate")
    parser.add_argument("--user-dir", help="of the checkpoint's task, where it is another than this")
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


def be_quiet() -> None:
    """Let fairseq and hydra tell of what goes wrong alone."""
    for name in ("fairseq", "hydra"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")


def import_user_dir(path: str | None) -> None:
    """Import what ``--user-dir`` names.

    Raises:
        UserError: it can't be imported.
    """
    try:
        utils.import_user_module(argparse.Namespace(user_dir=path))
    except (ImportError, FileNotFoundError) as error:
        raise UserError(f"can't import --user-dir {path}: {str(error).splitlines()[0]}") from error


def max_tokens(args) -> int | None:
    """Tokens of a batch at most; None where sentences are counted alone."""
    return args.max_tokens or (None if args.batch_size else 4000)


def load_data(args) -> tuple[Loaded, list[Mapping]]:
    """The model of ``--path``, and the batches of data to look at.

    Raises:
        UserError: a flag, the checkpoint or the data are wrong.
    """
    be_quiet()
    at_least_one(args, "sentences", "max_tokens", "batch_size")
    import_user_dir(args.user_dir)
    loaded = load(args.path, args.data, args.model_overrides, args.cpu)
    return loaded, batches(loaded, args.gen_subset, max_tokens(args), args.batch_size, args.sentences)
