"""What the verbs that look at data share: their flags, and the model and data that these name."""

import argparse
import logging
import re
import warnings
from collections.abc import Mapping

from fairseq import utils

from ..plan import UserError
from ..selection.calibration import Loaded, batches, load


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size like 512M or 2G")
    return int(match[1]) * 1024 ** " KMG".index(match[2] or " ")


def add_data_arguments(parser) -> None:
    """Add the flags that say which data to look at, and how."""
    parser.add_argument("data", metavar="DATA", help="binarised data")
    parser.add_argument("--gen-subset", "--subset", default="valid", metavar="SUBSET", help="default: valid")
    parser.add_argument("--sentences", type=int, metavar="N", help="take the first N sentences, or blocks, of it")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="tokens of a batch (default: 4000)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="sentences of a batch")
    parser.add_argument("--memory", type=_bytes, default="1G", metavar="SIZE", help="for stored states (default: 1G)")
    parser.add_argument("--model-overrides", default="{}", metavar="DICT", help="as in fairseq-generate")
    parser.add_argument("--user-dir", help="of the checkpoint's task, where it is another than this")
    parser.add_argument("--cpu", action="store_true", help="leave the GPU alone")


def at_least_one(args, *names: str) -> None:
    """Check the options that are numbers.

    Raises:
        UserError: one is given and below 1.
    """
    for name in names:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")


def load_data(args) -> tuple[Loaded, list[Mapping]]:
    """The model of ``--path``, and the batches of data to look at.

    Raises:
        UserError: a flag, the checkpoint or the data are wrong.
    """
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
    at_least_one(args, "sentences", "max_tokens", "batch_size")
    if args.user_dir is not None:
        try:
            utils.import_user_module(args)
        except (ImportError, FileNotFoundError) as error:
            raise UserError(f"can't import --user-dir {args.user_dir}: {str(error).splitlines()[0]}") from error
    loaded = load(args.path, args.data, args.model_overrides, args.cpu)
    samples = batches(
        loaded, args.gen_subset, args.max_tokens or (None if args.batch_size else 4000), args.batch_size, args.sentences
    )
    return loaded, samples
