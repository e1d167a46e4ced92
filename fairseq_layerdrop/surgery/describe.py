"""What a checkpoint holds, read off its settings and its state dict without building the model."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from .checkpoint import Checkpoint
from .config import layer_chunks
from .export import prune
from .stack_settings import DROPS, StackSettings
from .state import layer_of, shared_keys, without_importance

# Entries of fairseq's state dicts that are buffers, by the last part of their names.
_BUFFERS = {"version", "_float_tensor", "num_updates"}


@dataclass(frozen=True)
class Description:
    """What ``fairseq-layerdrop describe`` tells.

    Attributes:
        architecture: name of the model's architecture.
        task: name of the task it was trained for.
        depths: number of layers of each stack, counted in the state dict.
        sub_layers: for each stack, layer by layer, the sub-layers that it has.
        layerdrop: LayerDrop rate of each stack while training; the mean, where layers have rates of their own.
        dropping: what else the training dropped of each stack, how it chose, and which layers share weights; in words.
        teacher: how the training taught sub-networks, in words; None where it didn't.
        importance: learned importance of each layer, by stack, of those that have any.
        parameters: number of parameters in all, those that several names share counted once.
        parameters_by_part: the same by part: ``embeddings and output``, and each stack's ``layers``.
        updates: number of training updates; None where the checkpoint doesn't tell.
        pruning_history: how the model was pruned, oldest first; see
            :meth:`~fairseq_layerdrop.surgery.checkpoint.Checkpoint.history_entry`.
    """

    architecture: str
    task: str
    depths: dict[str, int]
    sub_layers: dict[str, tuple[tuple[str, ...], ...]]
    layerdrop: dict[str, float]
    dropping: dict[str, list[str]]
    teacher: str | None
    importance: dict[str, tuple[float, ...]]
    parameters: int
    parameters_by_part: dict[str, int]
    updates: int | None
    pruning_history: list[dict]

    def to_dict(self) -> dict:
        return asdict(self)


def _layerdrop(settings: StackSettings, depth: int) -> float:
    """The LayerDrop rate asked for; of listed ones the mean."""
    if settings.layerdrop_rates:
        rates = [float(rate) for rate in settings.layerdrop_rates.split(",")]
        return sum(rates) / len(rates)
    target = settings.layerdrop_target_depth
    return 1 - target / depth if target else float(settings.layerdrop)


def _dropping(settings: StackSettings) -> list[str]:
    words = [f"LayerDrop rates {settings.layerdrop_rates}"] if settings.layerdrop_rates else []
    words += ["rates learned"] if settings.layerdrop_learned else []
    for groups, kind in zip(("sub-layers", "heads"), DROPS[1:], strict=True):
        words += [f"{groups} {settings.rate(kind):g}"] if settings.rate(kind) else []
        words += [f"{groups} {settings.rates(kind)}"] if settings.rates(kind) else []
    if words or settings.drops:
        schedules = ((getattr(settings.cfg, f"layerdrop_{kind}_schedule", None), kind) for kind in ("depth", "time"))
        words += [f"{name} in {kind}" for name, kind in schedules if name not in (None, "uniform", "constant")]
    return words + ([f"layers shared by {settings.share_layers}"] if settings.share_layers else [])


def _teacher(task: Mapping) -> str | None:
    teacher, plans = (task.get(f"layerdrop_{name}") for name in ("teacher", "plans"))
    if teacher in (None, "none"):
        return None
    return f"{teacher}, of the plans {plans}" if plans else f"{teacher}, of what LayerDrop draws"


def describe(checkpoint, prune_layers: str | None = None) -> Description:
    """Tell what a checkpoint holds, or what would be left of it.

    Args:
        checkpoint: a file's path, or a :class:`~fairseq_layerdrop.surgery.checkpoint.Checkpoint`.
        prune_layers: what to keep; all of it by default.

    Raises:
        UserError: the file is no checkpoint, the model isn't a Transformer, or the plan doesn't fit it.
    """
    if prune_layers is not None:
        checkpoint = prune(checkpoint, prune_layers)
    elif not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint.load(checkpoint)
    model, structure = Namespace(**checkpoint.settings("model")), checkpoint.structure
    stacks = {stack: StackSettings(model, stack) for stack in structure}
    shared = shared_keys(checkpoint.weights, layer_chunks(model, structure))
    parts: dict[str, int] = {}
    matrices: list[torch.Tensor] = []
    for key, tensor in without_importance(checkpoint.weights).items():
        if key.rpartition(".")[2] in _BUFFERS:
            continue
        layer = layer_of(key)
        if not layer and tensor.dim() == 2:
            # Tied embeddings. A checkpoint saved from a GPU holds them as separate tensors of equal values.
            if any(tensor.shape == other.shape and torch.equal(tensor, other) for other in matrices):
                continue
            matrices.append(tensor)
        if key in shared:
            continue
        part = f"{layer[0]} layers" if layer else "embeddings and output"
        parts[part] = parts.get(part, 0) + tensor.numel()
    return Description(
        architecture=checkpoint.architecture,
        task=checkpoint.task,
        depths={stack: len(layers) for stack, layers in structure.items()},
        sub_layers={stack: tuple(tuple(layer.texts) for layer in layers) for stack, layers in structure.items()},
        layerdrop={stack: _layerdrop(stacks[stack], len(layers)) for stack, layers in structure.items()},
        dropping={stack: _dropping(settings) for stack, settings in stacks.items()},
        teacher=_teacher(checkpoint.settings("task")),
        importance=checkpoint.importance,
        parameters=sum(parts.values()),
        parameters_by_part=parts,
        updates=checkpoint.updates,
        pruning_history=checkpoint.history,
    )
