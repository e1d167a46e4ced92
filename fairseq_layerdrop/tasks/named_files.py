"""Files and folders that a run names and that must be there before it begins."""

import os
from argparse import Namespace
from pathlib import Path

from fairseq.file_io import PathManager
from fairseq.utils import split_paths

from ..base.configs import config_as_dict
from ..base.errors import UserError

# What fairseq-train goes on from.
LAST = "checkpoint_last.pt"
# Settings that name files to read, by section.
_FILES = {
    "bpe": ("bpe_codes", "bpe_merges", "bpe_vocab", "gpt2_encoder_json", "gpt2_vocab_bpe", "sentencepiece_model"),
    "common": ("quantization_config_path",),
    "common_eval": ("path",),
    "ema": ("ema_seed_model",),
    "generation": ("lm_path",),
    "interactive": ("input",),
    "model": ("encoder_embed_path", "decoder_embed_path"),
}


def _has_parts(run) -> bool:
    """Whether a checkpoint of this run is several files, whose names are made from the one that is given."""
    return bool(
        run.checkpoint.checkpoint_suffix
        or run.checkpoint.checkpoint_shard_count > 1
        or run.common.model_parallel_size > 1
        or run.distributed_training.use_sharded_state
    )


def check_data(data: str) -> None:
    """Refuse folders of binarised *data* that aren't there.

    Raises:
        UserError: one isn't.
    """
    for path in split_paths(data):
        if "://" not in path and not os.path.isdir(path):
            raise UserError(f"no such folder of binarised data: {path}")


def _check_start(settings) -> None:
    """Refuse to train from scratch where a checkpoint to begin with was named.

    fairseq takes any file that isn't there for one that isn't there yet, as the last one of ``--save-dir`` may be.

    Args:
        settings: the run's section ``checkpoint``.
    """
    last, given = Path(settings.save_dir, LAST), settings.restore_file
    if given == LAST:  # the default
        for name in ("continue_once", "finetune_from_model") if not last.is_file() else ():
            given = settings.get(name)
            if given is not None and not PathManager.isfile(given):
                raise UserError(f"--{name.replace('_', '-')}: no such checkpoint: {given}")
    elif not PathManager.isfile(given) and os.path.abspath(given) != os.path.abspath(last):
        beside = Path(settings.save_dir, given)
        hint = f"; in --save-dir there is, give {beside}" if beside.is_file() else ""
        raise UserError(f"--restore-file: no such checkpoint: {given}{hint}")


def check_named_files(run) -> None:
    """Refuse a run that names a file to read that isn't there.

    Args:
        run: configuration of the whole run, of a training or another of fairseq's commands.

    Raises:
        UserError: it does.
    """
    in_parts = _has_parts(run)
    if not in_parts:
        _check_start(run.checkpoint)
    for section, names in _FILES.items():
        settings = run.get(section)
        if settings is None or (section == "common_eval" and in_parts):
            continue
        values = vars(settings) if isinstance(settings, Namespace) else config_as_dict(settings)
        for name in names:
            given = values.get(name)
            for path in split_paths(given) if given and given != "???" else ():
                if "://" in path or path == "-":  # fairseq downloads it, or it is the standard input
                    continue
                if not os.path.isfile(path):
                    raise UserError(f"--{name.replace('_', '-')}: no such file: {path}")
