"""Checkpoints that stand alone: pruned, without training state, and with settings that describe them as they are."""

import copy
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields

from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.registry import REGISTRIES

from ..plan import Plan, parse
from .architectures import our_architecture, stock_architecture, stock_choice
from .checkpoint import Checkpoint
from .config import OWN_SETTINGS, SUBLAYERS_SETTING, needs_ours, set_plan, settings_as_dict
from .history import HISTORY_KEY
from .stack_settings import StackSettings
from .state import slice_state_dict, without_importance


def pruned_settings(checkpoint: Checkpoint, plan: Plan, sharing: bool = True) -> Namespace:
    """The flat settings of the pruned model: its depths, what its layers lack, and the architecture to build it.

    With *sharing*, layers that share their weights go on doing so, which takes one of our architectures.

    Raises:
        ExportError: sub-layers are missing and we have no version of the architecture.
    """
    flat = checkpoint.flat_settings
    stacks = [StackSettings(flat, stack) for stack in plan.stacks]
    setattr(flat, SUBLAYERS_SETTING, None)
    for settings in stacks:
        settings.layers_to_keep = None
    set_plan(flat, plan)
    if not sharing:
        for settings in stacks:
            settings.share_layers = None
    if needs_ours(flat) or any(settings.share_layers for settings in stacks):
        name = our_architecture(flat._name)
    else:
        name = stock_architecture(flat._name)
        for setting in OWN_SETTINGS:
            vars(flat).pop(setting, None)
    for stack in plan.stacks:
        vars(flat).pop(f"{stack}_layerdrop_learned", None)
    vars(flat).pop("prune_layers", None)
    flat._name = flat.arch = name
    flat.task = checkpoint.stock_task_settings["_name"]
    flat.user_dir = None
    return flat


def _with_attributes(settings: Mapping) -> OrderedDict:
    """*settings* as items and as attributes.

    fairseq's older models, and tools for its checkpoints, ask for attributes. Of all types that have some, torch's
    weights-only unpickler builds this one without being told to, and not the Namespace that fairseq-train saves.
    """
    both = OrderedDict(settings)
    vars(both).update(settings)
    return both


def _saved_settings(flat: Namespace, checkpoint: Checkpoint) -> dict:
    """``args`` and ``cfg`` of the exported checkpoint, in plain data that torch's weights-only unpickler takes.

    A model with a dataclass has a ``cfg`` of dictionaries, as fairseq-train saves it. Others have all settings in
    ``args``, as the checkpoints that fairseq published: some of its models (BART) can't be built from a dictionary.
    """
    parts = copy.deepcopy(checkpoint.content.get("cfg")) or {}
    parts.update(task=checkpoint.stock_task_settings)
    parts = {part: settings_as_dict(part_) if isinstance(part_, Namespace) else part_ for part, part_ in parts.items()}
    if isinstance(parts.get("common"), dict):
        parts["common"]["user_dir"] = None
    dataclass = getattr(ARCH_MODEL_REGISTRY.get(flat._name), "__dataclass", None)
    if dataclass and checkpoint.content.get("cfg"):
        known = {field.name: getattr(flat, field.name) for field in fields(dataclass) if hasattr(flat, field.name)}
        return {"args": None, "cfg": {**parts, "model": known}}
    settings = dict(vars(flat))
    for part, of_part in parts.items():
        if isinstance(of_part, dict) and part != "model":
            settings = {**of_part, **settings, **({part: of_part["_name"]} if of_part.get("_name") else {})}
    for part, known in REGISTRIES.items():
        # A user's own, a criterion say, would stop the loading.
        used = stock_choice(known["registry"], settings.pop(part, None))
        if used is not None:
            settings[part] = used
    return {"args": _with_attributes(settings), "cfg": None}


def export_checkpoint(checkpoint: Checkpoint, plan: Plan, ema: bool = False) -> dict:
    """The pruned checkpoint: weights, true settings and pruning history, without any state of the training.

    Where whole layers are dropped, or none, it is a checkpoint of stock fairseq. Where sub-layers are, it is one of our
    architectures, which builds itself without them.

    Args:
        checkpoint: the whole one.
        plan: what to keep of it.
        ema: whether to export the exponential moving average of the weights in their place.

    Raises:
        ExportError: sub-layers are to be dropped from a model of which we have no version, or there is no average.
    """
    flat = pruned_settings(checkpoint, plan)
    history = checkpoint.history
    if plan != Plan.whole(plan.full) or ema:
        history.append(checkpoint.history_entry(plan, ema))
    weights = checkpoint.averaged_weights if ema else checkpoint.weights
    last = (checkpoint.content.get("optimizer_history") or [{}])[-1]
    return {
        **_saved_settings(flat, checkpoint),
        "model": without_importance(slice_state_dict(weights, plan)),
        "criterion": checkpoint.content.get("criterion"),
        # What fairseq asks of every checkpoint, with nothing in it but the number of updates.
        "optimizer_history": [
            {
                "criterion_name": last.get("criterion_name"),
                "optimizer_name": last.get("optimizer_name"),
                "lr_scheduler_state": {},
                "num_updates": checkpoint.updates or 0,
            }
        ],
        "task_state": {**(checkpoint.content.get("task_state") or {}), **({HISTORY_KEY: history} if history else {})},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
    }


def prune(checkpoint, prune_layers: str) -> Checkpoint:
    """A smaller checkpoint, in memory, which stands alone as an exported one.

    Args:
        checkpoint: a file's path, or a :class:`~fairseq_layerdrop.surgery.checkpoint.Checkpoint`; isn't changed.
        prune_layers: what to keep, as ``--prune-layers`` says.

    Raises:
        UserError: it is no checkpoint of a Transformer, or the plan doesn't fit it.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint.load(checkpoint)
    return Checkpoint(export_checkpoint(checkpoint, checkpoint.plan(parse(prune_layers))), checkpoint.name)
