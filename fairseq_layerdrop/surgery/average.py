"""Averaging the weights of checkpoints (Vaswani et al. 2017, section 6.1)."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from ..base.errors import UserError
from .checkpoint_file import CheckpointError, load_checkpoint, save_checkpoint

_EPOCH = re.compile(r"checkpoint(\d+)\.pt")


def last_epochs(folder, count: int) -> list[Path]:
    """The *count* newest epoch checkpoints (``checkpoint7.pt``) of a training's folder, oldest first.

    Raises:
        CheckpointError: there are fewer.
    """
    found = {
        int(match[1]): path for path in Path(folder).glob("checkpoint*.pt") if (match := _EPOCH.fullmatch(path.name))
    }
    if len(found) < count:
        raise CheckpointError(f"{folder} has {len(found)} epoch checkpoints (checkpoint1.pt, …), not {count}")
    return [found[epoch] for epoch in sorted(found)[-count:]]


def average_checkpoints(paths: Sequence) -> dict:
    """A checkpoint whose weights are the mean of those of *paths*, and the rest, without optimizer state, of the last.

    One checkpoint is in memory at a time beside the sum, which is in 32 bits where the weights have fewer. Tensors of
    whole numbers are those of the last checkpoint.

    Raises:
        CheckpointError: a file can't be read, or the models have other weights.
    """
    total: dict[str, torch.Tensor] = {}
    for path in paths:
        checkpoint = load_checkpoint(path)
        model = checkpoint["model"]
        shapes = {key: tensor.shape for key, tensor in model.items()}
        if total and shapes != {key: tensor.shape for key, tensor in total.items()}:
            raise CheckpointError(f"{path} is of another model than {paths[0]}")
        for key, tensor in model.items():
            if not tensor.is_floating_point():
                total[key] = tensor
            elif key in total:
                total[key] += tensor
            else:
                total[key] = tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
    averaged: dict[str, torch.Tensor] = {}
    tied: dict[tuple, torch.Tensor] = {}  # what shares memory goes on sharing it
    for key, tensor in model.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if place not in tied:
            mean = total[key] / len(paths) if tensor.is_floating_point() else total[key]
            tied[place] = mean.to(tensor.dtype)
        averaged[key] = tied[place]
    rest = {key: value for key, value in checkpoint.items() if key != "last_optimizer_state"}
    return {**rest, "model": averaged}


def average(paths: Sequence, output, last: int | None = None, force: bool = False) -> list[Path]:
    """Write a checkpoint with the mean weights of others; see :func:`average_checkpoints`.

    Args:
        paths: the checkpoints, or with *last* the folder of a training.
        output: the checkpoint to write.
        last: average so many of the folder's newest epoch checkpoints.
        force: replace *output* if it exists.

    Returns:
        the checkpoints that were averaged.

    Raises:
        UserError: an argument or a checkpoint is wrong, or *output* can't be written.
    """
    paths, output = [Path(path) for path in paths], Path(output)
    if last is not None:
        if len(paths) != 1 or last < 1:
            raise UserError("--last wants a number of at least 1 and one folder")
        if not paths[0].is_dir():
            raise UserError(f"no such folder: {paths[0]}")
        paths = last_epochs(paths[0], last)
    elif any(path.is_dir() for path in paths):
        raise UserError("to average a folder's checkpoints, say how many of the newest: --last N")
    if any(output.exists() and path.exists() and output.samefile(path) for path in paths):
        raise UserError(f"{output} is one of the checkpoints to average; give another name")
    if output.exists() and not force:
        raise UserError(f"{output} exists; give another name, or --force to replace it")
    save_checkpoint(average_checkpoints(paths), output)
    return paths
