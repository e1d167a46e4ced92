"""Plan x state dict -> smaller state dict, by the names of keys."""

import re
from collections.abc import Mapping

from ..plan import Plan, UserError

# The number of a Transformer layer in a state dict's key: `encoder.layers.3.…`, RoBERTa's
# `encoder.sentence_encoder.layers.3.…` (in its oldest checkpoints under `decoder.`), multilingual
# `models.de-en.encoder.layers.3.…`.
# Other lists that are called `layers`, as in `decoder.embed_tokens.highway.layers.0`, must not match.
_LAYER_KEY = re.compile(
    r"(?P<head>(?:models\.[^.]+\.)?(?P<part>encoder|decoder)\.(?P<sentence>sentence_encoder\.)?layers\.)"
    r"(?P<layer>\d+)(?P<tail>\..+)"
)


class DepthError(UserError):
    """A state dict whose depth is neither that before nor that after a plan."""


def layer_of(key: str) -> tuple[str, int] | None:
    """Stack and number of the Transformer layer that a state dict's *key* belongs to; None for other keys."""
    match = _LAYER_KEY.fullmatch(key)
    return (_stack_of(match), int(match["layer"])) if match else None


def _stack_of(match: re.Match) -> str:
    return "encoder" if match["sentence"] else match["part"]


def state_depths(state_dict: Mapping) -> dict[str, int]:
    """Depth of each stack in *state_dict*: one more than the highest layer number of its keys."""
    depths: dict[str, int] = {}
    for stack, layer in filter(None, map(layer_of, state_dict)):
        depths[stack] = max(depths.get(stack, 0), layer + 1)
    return depths


def slice_state_dict(state_dict: Mapping, plan: Plan) -> dict:
    """The state dict of the pruned model: keys of dropped layers are gone, those of kept layers renumbered.

    All other keys stay. The tensors are those of *state_dict*, not copies, and *state_dict* isn't changed. Only names
    of keys are looked at, so keys of any age work: slice before fairseq upgrades them, since its upgrade walks the
    small model and would miss the layers numbered beyond it.

    Args:
        state_dict: of the full model.
        plan: a plan for its depths; stacks that the plan doesn't name stay whole.

    Raises:
        DepthError: the state dict has other depths than the plan is for.
    """
    depths = state_depths(state_dict)
    for stack, part in plan.stacks.items():
        if depths.get(stack) != part.depth:
            raise DepthError(
                f"the plan is for {part.depth} {stack} layers, but the checkpoint has {depths.get(stack, 0)}"
            )
    renumbered = {stack: {old: new for new, old in enumerate(part.kept)} for stack, part in plan.stacks.items()}
    sliced = {}
    for key, value in state_dict.items():
        match = _LAYER_KEY.fullmatch(key)
        if match and _stack_of(match) in renumbered:
            new = renumbered[_stack_of(match)].get(int(match["layer"]))
            if new is None:
                continue
            key = f"{match['head']}{new}{match['tail']}"
        sliced[key] = value
    return sliced
