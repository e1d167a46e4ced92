"""What a checkpoint holds, read off its settings and its state dict without building the model."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from .checkpoint import load_checkpoint
from .config import SUBLAYERS_SETTING, layer_chunks, model_structure, not_a_transformer, settings_as_dict
from .history import pruning_history
from .progress import updates_of
from .state import (
    is_transformer,
    layer_of,
    learned_importance,
    shared_keys,
    state_structure,
    without_importance,
)

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
            :func:`~fairseq_layerdrop.surgery.history_entry`.
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


def _settings(checkpoint: Mapping, part: str) -> dict:
    """The settings of ``model`` or ``task`` as a dictionary, from new checkpoints (``cfg``) and old ones (``args``)."""
    cfg = checkpoint.get("cfg")
    settings = cfg[part] if cfg else checkpoint["args"]
    return settings_as_dict(settings)


def _layerdrop(model: Mapping, stack: str, depth: int) -> float:
    """The LayerDrop rate asked for; of listed ones the mean."""
    listed, target = (model.get(f"{stack}_layerdrop_{name}") for name in ("rates", "target_depth"))
    if listed:
        rates = [float(rate) for rate in listed.split(",")]
        return sum(rates) / len(rates)
    return 1 - target / depth if target else float(model.get(f"{stack}_layerdrop") or 0)


def _dropping(model: Mapping, stack: str) -> list[str]:
    def given(name):
        return model.get(f"{stack}_{name}")

    words = [f"LayerDrop rates {given('layerdrop_rates')}"] if given("layerdrop_rates") else []
    words += ["rates learned"] if given("layerdrop_learned") else []
    for groups, kind in (("sub-layers", "sublayerdrop"), ("heads", "headdrop")):
        words += [f"{groups} {given(kind):g}"] if given(kind) else []
        words += [f"{groups} {given(f'{kind}_rates')}"] if given(f"{kind}_rates") else []
    if words or given("layerdrop") or given("layerdrop_target_depth"):
        schedules = ((model.get(f"layerdrop_{kind}_schedule"), kind) for kind in ("depth", "time"))
        words += [f"{name} in {kind}" for name, kind in schedules if name not in (None, "uniform", "constant")]
    return words + ([f"layers shared by {given('share_layers')}"] if given("share_layers") else [])


def _teacher(task: Mapping) -> str | None:
    teacher, plans = (task.get(f"layerdrop_{name}") for name in ("teacher", "plans"))
    if teacher in (None, "none"):
        return None
    return f"{teacher}, of the plans {plans}" if plans else f"{teacher}, of what LayerDrop draws"


def describe(checkpoint) -> Description:
    """Tell what a checkpoint holds.

    Args:
        checkpoint: a file's path, or what :func:`~fairseq_layerdrop.surgery.checkpoint.load_checkpoint` returns.

    Raises:
        UserError: the file is no checkpoint, or the model isn't a Transformer.
    """
    if not isinstance(checkpoint, Mapping):
        checkpoint = load_checkpoint(checkpoint)
    model = _settings(checkpoint, "model")
    task = _settings(checkpoint, "task")
    architecture = model.get("_name") or model.get("arch") or "unknown"
    if not model.get(SUBLAYERS_SETTING) and not is_transformer(checkpoint["model"]):
        raise not_a_transformer(architecture)
    structure = state_structure(checkpoint["model"])
    depths = {stack: len(layers) for stack, layers in structure.items()}
    known = Namespace(**model)
    if model.get(SUBLAYERS_SETTING):  # it tells of heads, which the state dict doesn't
        structure = model_structure(known)
    shared = shared_keys(checkpoint["model"], layer_chunks(known, structure))
    parts: dict[str, int] = {}
    matrices: list[torch.Tensor] = []
    for key, tensor in without_importance(checkpoint["model"]).items():
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
        architecture=architecture,
        task=task.get("task") or task.get("_name") or "unknown",
        depths=depths,
        sub_layers={stack: tuple(tuple(layer.texts) for layer in layers) for stack, layers in structure.items()},
        layerdrop={stack: _layerdrop(model, stack, depth) for stack, depth in depths.items()},
        dropping={stack: _dropping(model, stack) for stack in structure},
        teacher=_teacher(task),
        importance=learned_importance(checkpoint["model"]),
        parameters=sum(parts.values()),
        parameters_by_part=parts,
        updates=updates_of(checkpoint),
        pruning_history=pruning_history(checkpoint),
    )
