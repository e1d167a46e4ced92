"""Building a pruned model in place of the full one."""

import json
import logging
import types
from collections.abc import Mapping
from dataclasses import replace

from ..modules import remove_heads, remove_sublayers
from ..plan import SUB_LAYERS, Plan, PlanError, PlanFile, PruneSpec, Structure
from .config import layer_chunks, model_facts, model_structure, prune_config
from .misfit import load_or_tell
from .state import DepthError, has_structure, layers_of, shared_keys, slice_state_dict, without_importance

logger = logging.getLogger(__name__)


def remove_missing_sublayers(model, structure: Structure) -> None:
    """Take out of *model*, in place, what it doesn't have in *structure*, which has the same depths.

    Raises:
        PlanError: an attention has another number of heads than *structure* tells.
    """
    for stack, number, layer in layers_of(model):
        if stack not in structure:
            continue
        left = structure[stack][number]
        remove_sublayers(layer, [name for name in SUB_LAYERS if name not in left.names])
        for sub_layer in (part for part in left if part.heads):
            attention = getattr(layer, sub_layer.name)
            if attention.num_heads == sub_layer.total:
                remove_heads(attention, sub_layer.heads)
            elif attention.num_heads != len(sub_layer.heads):  # else they are gone already
                raise PlanError(
                    f"the plan is for {sub_layer.total} heads in {sub_layer.name} of {stack} layer {number}, and this "
                    f"model has {attention.num_heads}"
                )


def _numbers(state_dict, chunks) -> int:
    """Number of values in a state dict, those that layers of the same chunk share counted once."""
    shared = shared_keys(state_dict, chunks)
    return sum(value.numel() for key, value in without_importance(state_dict).items() if key not in shared)


def _load_sliced(self, state_dict: Mapping, *args, **kwargs):
    plan: Plan = self.prune_plan
    if has_structure(state_dict, plan.pruned) and not has_structure(state_dict, plan.full):
        return load_or_tell(self, state_dict, *args, **kwargs)
    try:
        sliced = slice_state_dict(state_dict, plan)
    except DepthError as error:
        raise SystemExit(error.code) from None  # fairseq's trainer would bury an exception in its own
    after = sum(v.numel() for name, v in self.named_parameters() if "layer_importance." not in name)
    # Pruning only takes values away, and renames others: what is missing is what was dropped.
    dropped = _numbers(state_dict, self.chunks_before) - _numbers(sliced, self.chunks_after)
    loaded = load_or_tell(self, sliced, *args, **kwargs)
    logger.info(f"pruned layers: kept {plan}; {after + dropped:,} parameters before, {after:,} after")
    depths = {stack: [len(part.layers), part.depth] for stack, part in plan.stacks.items()}
    found = {"kept": str(plan), "depths": depths, "parameters": {"before": after + dropped, "after": after}}
    logger.info(f"pruned layers as JSON: {json.dumps(found)}")
    return loaded


def slice_on_load(model, plan: Plan, before: Mapping, after: Mapping) -> None:
    """Let *model*, built as it is after *plan*, load state dicts of the full model by slicing them.

    fairseq's ``load_state_dict`` first upgrades old keys in a walk over the model; slicing must come before, so it
    can't be one of torch's hooks. A state dict of the pruned model (a resumed training) is loaded as it is. The method
    is bound to the instance, so that a deep copy (fairseq's EMA makes one) loads into itself.

    Args:
        model: changed in place.
        plan: what it keeps of the full model.
        before: for each stack of the full model the chunks of layers that share weights.
        after: the same for *model*.
    """
    model.prune_plan, model.chunks_before, model.chunks_after = plan, before, after
    model.load_state_dict = types.MethodType(_load_sliced, model)


def build_pruned(build_model, cfg, spec: PruneSpec | PlanFile, importance: Mapping | None = None):
    """Build the model that *cfg* describes, pruned.

    Args:
        build_model: function from a model configuration to a model.
        cfg: configuration of the full model; isn't changed.
        spec: what to keep of it.
        importance: the learned importances of the model's layers, by stack; by default those that *cfg* notes.

    Returns:
        the small model, which slices a full checkpoint when it loads one; its plan is its ``prune_plan``.

    Raises:
        PlanError: *spec* doesn't fit the model.
        ConfigError: *cfg* tells of no depth.
    """
    facts = model_facts(cfg)
    if importance is not None:
        facts = replace(facts, importance=importance)
    plan = spec.resolve(model_structure(cfg), facts)
    small = prune_config(cfg, plan)
    model = build_model(small)
    remove_missing_sublayers(model, plan.pruned)
    slice_on_load(model, plan, layer_chunks(cfg, plan.full), layer_chunks(small, plan.pruned))
    return model
