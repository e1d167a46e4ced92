"""A plan as values of JSON, in plan files and in the pruning history of checkpoints."""

from typing import Any

from .errors import PlanError
from .parts import SUB_LAYERS, Layer
from .plan import STACKS, Plan, StackPlan


def plan_to_dict(plan: Plan) -> dict[str, list[dict[str, list[str]]]]:
    """*plan* as the ``stacks`` of a plan file."""
    return {
        stack: [{"keep": keep.texts, "drop": full.without(keep).texts} for full, keep in zip(part.full, part.keep)]
        for stack, part in plan.stacks.items()
    }


def _merge_keep_and_drop(keep: Layer, drop: Layer) -> Layer:
    """The layer of which these are the parts.

    Raises:
        PlanError: there is none.
    """
    sub_layers = []
    for name in SUB_LAYERS:
        kept, dropped = keep.find(name), drop.find(name)
        if kept and dropped:
            kept = kept.with_heads((*kept.heads, *dropped.heads), kept.total)
        sub_layers.append(kept or dropped)
    layer = Layer(filter(None, sub_layers))
    if not layer or layer.without(keep) != drop:
        raise PlanError(f"{keep} and {drop} are not the parts of a layer")
    return layer


def plan_from_dict(stacks: Any, where: str) -> Plan:
    """The plan that :func:`plan_to_dict` wrote.

    Args:
        stacks: any value that JSON can hold.
        where: what the value was read from, for messages.

    Raises:
        PlanError: the value isn't a plan; the message names the field.
    """

    def wrong(field: str, right: str) -> PlanError:
        return PlanError(f"{where}: {field} must be {right}")

    if not isinstance(stacks, dict) or not stacks or not set(stacks) <= set(STACKS):
        raise wrong("stacks", f"an object with {' or '.join(STACKS)} or both")
    plans = {}
    for stack in (name for name in STACKS if name in stacks):
        layers = stacks[stack]
        if not isinstance(layers, list) or not layers:
            raise wrong(f"stacks.{stack}", "a list with an item for each layer")
        full, kept = [], []
        for number, layer in enumerate(layers):
            field = f"stacks.{stack}[{number}]"
            if not isinstance(layer, dict) or set(layer) != {"keep", "drop"}:
                raise wrong(field, 'an object with "keep" and "drop"')
            parts = {}
            for part, texts in layer.items():
                try:
                    if not isinstance(texts, list):
                        raise TypeError
                    parts[part] = Layer.of(*texts)
                except (PlanError, TypeError):
                    right = f"a list of sub-layers in the order {', '.join(SUB_LAYERS)}"
                    raise wrong(f"{field}.{part}", right) from None
            try:
                full.append(_merge_keep_and_drop(**parts))
            except PlanError:
                raise wrong(field, "a layer with each of its sub-layers either kept or dropped") from None
            kept.append(parts["keep"])
        if not any(kept):
            raise wrong(f"stacks.{stack}", "a list of layers of which at least one is kept")
        plans[stack] = StackPlan(tuple(full), tuple(kept))
    return Plan(plans)
