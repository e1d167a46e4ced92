"""Checkpoints that stand alone: pruned, without training state, and with settings that describe them as they are."""

import copy
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields

from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_REGISTRY

from ..base.errors import UserError
from ..plan import STACKS, ModelFacts, Plan, PlanFile, PruneSpec, Structure
from .config import (
    OWN_SETTINGS,
    SUBLAYERS_SETTING,
    architecture_of,
    complete_architecture,
    model_facts,
    model_structure,
    needs_ours,
    not_a_transformer,
    set_plan,
    settings_as_dict,
)
from .history import HISTORY_KEY, history_entry, pruning_history
from .progress import updates_of
from .state import is_transformer, learned_importance, slice_state_dict, state_structure, without_importance

# What our versions of fairseq's architectures and tasks begin with, and the packages that hold both.
_PREFIX = "layerdrop_"
_OURS = __name__.partition(".")[0]
_FAIRSEQ = "fairseq"


class ExportError(UserError):
    """A checkpoint that can't be exported as asked."""


def weights_of(checkpoint: Mapping, ema: bool = False) -> Mapping:
    """The state dict of a checkpoint's model, or with *ema* that of its exponential moving average.

    Raises:
        ExportError: the checkpoint has no such average, or a part of one. (fairseq averages pre-norm Transformers
            without their last norms: it loads what it averages without the ``version`` that tells of them.)
    """
    model = checkpoint["model"]
    if not ema:
        return model
    average = (checkpoint.get("extra_state") or {}).get("ema")
    if not isinstance(average, Mapping):
        raise ExportError("this checkpoint has no averaged weights; leave out --ema")
    missing = sorted(key for key in model if key not in average and not key.endswith("version"))
    if missing:
        raise ExportError(
            f"the averaged weights of this checkpoint are incomplete: fairseq's --store-ema left out {missing[0]}"
            + (f" and {len(missing) - 1} more" if missing[1:] else "")
            + "; leave out --ema"
        )
    return average


def plan_for(checkpoint: Mapping, spec: PruneSpec | PlanFile | None, ema: bool = False) -> Plan:
    """The plan that *spec* makes for a checkpoint, by what its state dict holds; all is kept where it is None.

    Raises:
        PlanError: *spec* doesn't fit the model.
        ExportError: there is no average.
        UserError: the model isn't a Transformer.
    """
    weights_of(checkpoint, ema)
    structure = structure_of(checkpoint)
    return spec.resolve(structure, facts_of(checkpoint)) if spec else Plan.whole(structure)


def facts_of(checkpoint: Mapping) -> ModelFacts:
    """Head counts of a checkpoint's model, by its settings, and learned importances, by its weights."""
    return ModelFacts(model_facts(flat_settings(checkpoint)).heads, learned_importance(checkpoint["model"]))


def structure_of(checkpoint: Mapping) -> Structure:
    """Structure of a checkpoint's model: what its state dict holds, with the heads of which its settings tell.

    Raises:
        UserError: the model isn't a Transformer.
    """
    found = state_structure(checkpoint["model"])
    settings = flat_settings(checkpoint)
    if found and getattr(settings, SUBLAYERS_SETTING, None):
        return model_structure(settings)
    if not is_transformer(checkpoint["model"]):
        raise not_a_transformer(architecture_of(settings))
    return {stack: found[stack] for stack in STACKS if stack in found}


def _package(thing) -> str:
    """The package in which a class or a function was written."""
    return thing.__module__.partition(".")[0]


def _registered_base(cls: type, registry: Mapping[str, type], package: str = _FAIRSEQ) -> str:
    """Name of the nearest class of *package* that *cls* derives from; its own where there is none."""
    names = {base: name for name, base in registry.items() if _package(base) == package}
    own = next(name for name, base in registry.items() if base is cls)
    return next((names[base] for base in cls.__mro__ if base in names), own)


def _model_class(name: str) -> type:
    """The class of the models of architecture *name*.

    Raises:
        ExportError: nothing that was imported has it.
    """
    if name not in ARCH_MODEL_REGISTRY:
        raise ExportError(f"unknown architecture '{name}'; name the plugin that has it with --user-dir")
    return ARCH_MODEL_REGISTRY[name]


def _is_of(package: str, name: str) -> bool:
    """Whether *package* has the class of architecture *name*, and its sizes aren't a user's."""
    sizes = ARCH_CONFIG_REGISTRY.get(name)
    return _package(_model_class(name)) == package and (sizes is None or _package(sizes) in (_FAIRSEQ, _OURS))


def _stock_architecture(name: str) -> str:
    """The architecture of stock fairseq in which a whole model of architecture *name* is the same model.

    A model class of a user's own keeps its architecture: what it computes isn't known.

    Raises:
        ExportError: nothing that was imported has *name*.
    """
    cls = _model_class(name)
    if _is_of(_FAIRSEQ, name) or _package(cls) not in (_FAIRSEQ, _OURS):
        return name
    model, same_name = _registered_base(cls, MODEL_REGISTRY), name.removeprefix(_PREFIX)
    same = ARCH_MODEL_REGISTRY.get(same_name) is MODEL_REGISTRY[model] and _is_of(_FAIRSEQ, same_name)
    return same_name if same else model


def _our_architecture(name: str) -> str:
    """Our version of architecture *name*, or *name* where it is of a class derived from ours.

    Raises:
        ExportError: we have none, or nothing that was imported has *name*.
    """
    cls = _model_class(name)
    if _is_of(_OURS, name):
        return name
    if _package(cls) == _OURS:
        return _registered_base(cls, MODEL_REGISTRY, _OURS)
    if any(_package(base) == _OURS for base in cls.__mro__):
        return name
    if _PREFIX + name in ARCH_MODEL_REGISTRY:
        return _PREFIX + name
    ours = {model: base for model, base in MODEL_REGISTRY.items() if _package(base) == _OURS}
    for model, base in ours.items():
        if cls in base.__mro__:
            return model
    families = ", ".join(sorted(model.removeprefix(_PREFIX) for model in ours))
    raise ExportError(f"sub-layers can be left out of models of the kinds {families}, and this one is {name}")


def flat_settings(checkpoint: Mapping) -> Namespace:
    """A model's settings, complete, with those of its task where there is no setting of that name.

    This is what ``fairseq-train`` saves for its older models, and where tools for fairseq's checkpoints look.
    """
    cfg = checkpoint.get("cfg")
    settings = cfg["model"] if cfg else checkpoint["args"]
    flat = Namespace(**copy.deepcopy(settings_as_dict(settings)))
    flat._name = architecture_of(flat)
    complete_architecture(flat)
    for key, value in task_settings(checkpoint).items():
        vars(flat).setdefault(key, value)
    return flat


def task_name(checkpoint: Mapping) -> str:
    """Name of the task that a checkpoint was trained in."""
    cfg = checkpoint.get("cfg")
    return settings_as_dict(cfg["task"])["_name"] if cfg else getattr(checkpoint["args"], "task", "translation")


def task_settings(checkpoint: Mapping) -> dict:
    """The settings of a checkpoint's task, for stock fairseq's version of it; old checkpoints tell the name alone."""
    cfg = checkpoint.get("cfg")
    task = copy.deepcopy(settings_as_dict(cfg["task"])) if cfg else {"_name": task_name(checkpoint)}
    task.pop("prune_layers", None)
    if task["_name"] in TASK_REGISTRY:
        task["_name"] = _registered_base(TASK_REGISTRY[task["_name"]], TASK_REGISTRY)
    return task


def pruned_settings(checkpoint: Mapping, plan: Plan, sharing: bool = True) -> Namespace:
    """The flat settings of the pruned model: its depths, what its layers lack, and the architecture to build it.

    With *sharing*, layers that share their weights go on doing so, which takes one of our architectures.

    Raises:
        ExportError: sub-layers are missing and we have no version of the architecture.
    """
    flat = flat_settings(checkpoint)
    setattr(flat, SUBLAYERS_SETTING, None)
    for stack in plan.stacks:
        setattr(flat, f"{stack}_layers_to_keep", None)
    set_plan(flat, plan)
    if not sharing:
        vars(flat).update({f"{stack}_share_layers": None for stack in plan.stacks})
    shares = any(getattr(flat, f"{stack}_share_layers", None) for stack in plan.stacks)
    if needs_ours(flat) or shares:
        name = _our_architecture(architecture_of(flat))
    else:
        name = _stock_architecture(architecture_of(flat))
        for setting in OWN_SETTINGS:
            vars(flat).pop(setting, None)
    for stack in plan.stacks:
        vars(flat).pop(f"{stack}_layerdrop_learned", None)
    vars(flat).pop("prune_layers", None)
    flat._name = flat.arch = name
    flat.task = task_settings(checkpoint)["_name"]
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


def _saved_settings(flat: Namespace, checkpoint: Mapping) -> dict:
    """``args`` and ``cfg`` of the exported checkpoint, in plain data that torch's weights-only unpickler takes.

    A model with a dataclass has a ``cfg`` of dictionaries, as fairseq-train saves it. Others have all settings in
    ``args``, as the checkpoints that fairseq published: some of its models (BART) can't be built from a dictionary.
    """
    parts = copy.deepcopy(checkpoint.get("cfg")) or {}
    parts.update(task=task_settings(checkpoint))
    parts = {part: settings_as_dict(part_) if isinstance(part_, Namespace) else part_ for part, part_ in parts.items()}
    if isinstance(parts.get("common"), dict):
        parts["common"]["user_dir"] = None
    dataclass = getattr(ARCH_MODEL_REGISTRY.get(flat._name), "__dataclass", None)
    if dataclass and checkpoint.get("cfg"):
        known = {field.name: getattr(flat, field.name) for field in fields(dataclass) if hasattr(flat, field.name)}
        return {"args": None, "cfg": {**parts, "model": known}}
    settings = dict(vars(flat))
    for part, of_part in parts.items():
        if isinstance(of_part, dict) and part != "model":
            settings = {**of_part, **settings, **({part: of_part["_name"]} if of_part.get("_name") else {})}
    for part, known in REGISTRIES.items():
        used = known["registry"].get(settings.get(part))
        if used is None or _package(used) != _FAIRSEQ:  # a user's own criterion, say, which would stop the loading
            settings.pop(part, None)
    return {"args": _with_attributes(settings), "cfg": None}


def export_checkpoint(checkpoint: Mapping, plan: Plan, name: str, ema: bool = False) -> dict:
    """The pruned checkpoint: weights, true settings and pruning history, without any state of the training.

    Where whole layers are dropped, or none, it is a checkpoint of stock fairseq. Where sub-layers are, it is one of our
    architectures, which builds itself without them.

    Args:
        checkpoint: as :func:`~fairseq_layerdrop.surgery.load_checkpoint` returns it; isn't changed.
        plan: what to keep, from :func:`plan_for`.
        name: its file's name, for the history.
        ema: whether to export the exponential moving average of the weights in their place.

    Raises:
        ExportError: sub-layers are to be dropped from a model of which we have no version.
    """
    flat = pruned_settings(checkpoint, plan)
    history = pruning_history(checkpoint)
    if plan != Plan.whole(plan.full) or ema:
        history.append(history_entry(plan, checkpoint, weights_of(checkpoint, ema), name, ema))
    last = (checkpoint.get("optimizer_history") or [{}])[-1]
    return {
        **_saved_settings(flat, checkpoint),
        "model": without_importance(slice_state_dict(weights_of(checkpoint, ema), plan)),
        "criterion": checkpoint.get("criterion"),
        # What fairseq asks of every checkpoint, with nothing in it but the number of updates.
        "optimizer_history": [
            {
                "criterion_name": last.get("criterion_name"),
                "optimizer_name": last.get("optimizer_name"),
                "lr_scheduler_state": {},
                "num_updates": updates_of(checkpoint) or 0,
            }
        ],
        "task_state": {**(checkpoint.get("task_state") or {}), **({HISTORY_KEY: history} if history else {})},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
    }
