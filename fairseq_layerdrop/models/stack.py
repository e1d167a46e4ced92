"""Turning a stack of fairseq's into one that draws as LayerDrop should."""

import types

from torch import nn

from ..modules import LayerDropModuleList
from ..plan import UserError
from ..surgery import SUBLAYERS_SETTING, model_structure, remove_missing_sublayers

SUBLAYERS_HELP = "sub-layers that the model is without, for instance decoder=drop:3.ffn,4.self_attn"


def run_seed(args) -> int:
    """The run's seed from a model's settings; 1, fairseq's default, where they don't tell it."""
    seed = getattr(args, "seed", None)
    return 1 if seed is None else seed


def use_layerdrop(stack, name: str, rate: float, seed: int) -> None:
    """Give *stack* a :class:`~fairseq_layerdrop.modules.LayerDropModuleList` of its own layers.

    Names of parameters stay, so checkpoints go both ways between stock models and ours.

    Args:
        stack: a fairseq encoder or decoder with a module list ``layers``; changed in place.
        name: ``encoder`` or ``decoder``.
        rate: LayerDrop rate p of every layer; with 0 the stack is left alone.
        seed: the run's seed.

    Raises:
        UserError: the rate isn't in [0, 1].
    """
    if not 0 <= rate <= 1:
        raise UserError(f"--{name}-layerdrop must be in [0, 1], not {rate}")
    if rate:
        layers = [stack.layers[i] for i in range(len(stack.layers))]
        stack.layers = LayerDropModuleList(
            layers, [rate] * len(layers), seed=seed, stack=name, returns_tuple=name == "decoder"
        )


def leave_out_sublayers(model, args) -> None:
    """Take out of *model* the sub-layers that its settings say it lacks."""
    if getattr(args, SUBLAYERS_SETTING, None) is not None:
        remove_missing_sublayers(model, model_structure(args))


def remove_fast_path(encoder) -> None:
    """Take the inference fast path of fairseq 0.12.2 (Python 3.10) out of *encoder*; it fails with torch >= 2.0.

    The path needs second copies of a layer's weights, which are parameters of their own and are filled when a state
    dict is loaded. fairseq's main branch has neither path nor copies, and without them checkpoints go both ways.
    """
    for i in range(len(encoder.layers)):
        layer = encoder.layers[i]
        if hasattr(layer, "can_use_fastpath"):
            for name, _ in list(layer.named_parameters(recurse=False)):
                delattr(layer, name)
            layer._load_from_state_dict = types.MethodType(nn.Module._load_from_state_dict, layer)
