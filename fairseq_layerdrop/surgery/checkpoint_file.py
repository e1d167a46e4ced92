"""Reading and writing fairseq checkpoints safely."""

import argparse
import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

from ..base.errors import UserError
from ..base.files import write_atomically
from .plain_data import allow_fairseq_types, refused_type


class CheckpointError(UserError):
    """A checkpoint that is missing, broken, unsafe or not fairseq's."""


def _load(path: Path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)  # written by torch < 1.6, which can't be mapped


def unreadable(path, error: Exception) -> CheckpointError:
    """What to tell of a file that made torch raise *error*: what its unpickler refuses, or that it is damaged."""
    name = refused_type(error)
    if name is not None:
        return CheckpointError(f"{path} holds more than data, {name}: loading it could run code; refused")
    if "Unsupported operand" in str(error) and zipfile.is_zipfile(path):
        return CheckpointError(
            f"{path} is damaged, or was saved with another pickle_protocol than torch.save's own, 2, the only one that "
            "is read safely"
        )
    return CheckpointError(f"{path} is damaged or not a checkpoint")


def load_tensors(path: Path):
    """What a readable file of torch's holds, by the weights-only unpickler; mapped from it where its format allows.

    Raises:
        CheckpointError: it is damaged, or holds objects other than data and so might run code when loaded.
    """
    allow_fairseq_types()
    try:
        return _load(path)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make torch raise almost anything
        raise unreadable(path, error) from error


def _is_fairseqs(checkpoint) -> bool:
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        return False
    if not all(isinstance(key, str) and torch.is_tensor(value) for key, value in checkpoint["model"].items()):
        return False
    cfg = checkpoint.get("cfg")
    return isinstance(checkpoint.get("args"), argparse.Namespace | OrderedDict) or (
        isinstance(cfg, dict) and cfg.get("model") is not None and cfg.get("task") is not None
    )


def load_checkpoint(path) -> dict:
    """Load a fairseq checkpoint with tensors on the CPU, mapped from the file where its format allows.

    Args:
        path: a ``.pt`` file.

    Returns:
        the checkpoint as written, with at least ``model`` (the state dict) and ``args`` or ``cfg``.

    Raises:
        CheckpointError: there is no such file, it is damaged, it holds objects other than data and so might run code
            when loaded, or it isn't a fairseq checkpoint.
    """
    path = Path(path)
    if os.path.isdir(path):  # these are False where Path's own would raise: no access, a name too long
        inside = Path(path, "checkpoint_best.pt")
        hint = f"; give one in it, as {inside}" if inside.is_file() else ""
        raise CheckpointError(f"{path} is a folder, not a checkpoint{hint}")
    if not os.path.isfile(path):
        raise CheckpointError(f"no such checkpoint: {path}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    checkpoint = load_tensors(path)
    if not _is_fairseqs(checkpoint):
        raise CheckpointError(f"{path} is not a fairseq checkpoint: it has no model with its settings")
    return checkpoint


def _without_surplus(state_dict: dict) -> dict:
    """*state_dict* with tensors that own no more memory than they show; those that share memory still do.

    A tensor that is a part of a larger one would be saved with all of it.
    """
    copies: dict[tuple, torch.Tensor] = {}
    compact = {}
    for key, tensor in state_dict.items():
        storage = tensor.untyped_storage()
        if storage.nbytes() > tensor.numel() * tensor.element_size():
            view = (storage.data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
            if view not in copies:
                copies[view] = tensor.clone()
            tensor = copies[view]
        compact[key] = tensor
    return compact


def save_checkpoint(checkpoint: dict, path) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        UserError: the file can't be written.
    """
    checkpoint = {**checkpoint, "model": _without_surplus(checkpoint["model"])}
    with write_atomically(path) as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's writer hides what stopped it: an error of the file, a signal
            hidden = error.__context__
            raise (hidden if isinstance(hidden, OSError | SystemExit | KeyboardInterrupt) else error) from None
