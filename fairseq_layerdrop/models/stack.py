"""Turning a model of fairseq's into one that draws as LayerDrop should."""

import types

from torch import nn

from ..modules import LayerDropModuleList, LayerImportance
from ..plan import STACKS, UserError, chunks_of
from ..surgery import SUBLAYERS_SETTING, model_structure, remove_missing_sublayers
from .settings import drop_rates, drop_schedule
from .share import share_layers


def run_seed(args) -> int:
    """The run's seed from a model's settings; 1, fairseq's default, where they don't tell it."""
    seed = getattr(args, "seed", None)
    return 1 if seed is None else seed


def make_droppable(model, args) -> None:
    """Make *model*, a stock Transformer of fairseq's, the one that our settings in *args* describe; in place.

    Names of parameters stay, so checkpoints go both ways between stock models and ours.

    Raises:
        UserError: a setting is wrong, or settings exclude each other.
    """
    structure = model_structure(args)
    if getattr(args, SUBLAYERS_SETTING, None) is not None:
        remove_missing_sublayers(model, structure)
    for name in STACKS:
        stack = getattr(model, name, None)
        if stack is not None:
            layers = [stack.layers[i] for i in range(len(stack.layers))]
            chunks = chunks_of(getattr(args, f"{name}_share_layers", None), len(layers), name)
            share_layers(layers, structure[name], chunks)
            use_layerdrop(stack, name, args, layers)


def use_layerdrop(stack, name: str, args, layers: list[nn.Module]) -> None:
    """Give *stack* a :class:`~fairseq_layerdrop.modules.LayerDropModuleList` of its own layers.

    Args:
        stack: a fairseq encoder or decoder with a module list ``layers``; changed in place. Where all rates are 0,
            it is left alone.
        name: ``encoder`` or ``decoder``.
        args: the model's settings.
        layers: its layers.

    Raises:
        UserError: a setting is wrong, or settings exclude each other.
    """
    rates = drop_rates(args, name, len(layers))
    learned = getattr(args, f"{name}_layerdrop_learned", False)
    if learned and len(set(rates.layers)) > 1:
        raise UserError(f"--{name}-layerdrop-learned finds the rate of each layer; give one rate, --{name}-layerdrop")
    if learned and not 0 < rates.layers[0] < 1:
        raise UserError(f"--{name}-layerdrop-learned needs a mean rate, --{name}-layerdrop, between 0 and 1")
    if not rates:
        return
    if getattr(args, "ddp_backend", None) == "fully_sharded":
        raise UserError("LayerDrop doesn't train with --ddp-backend fully_sharded; give pytorch_ddp or legacy_ddp")
    if any(rates.heads) and getattr(layers[0].self_attn, "use_xformers", False):
        raise UserError(f"--{name}-headdrop doesn't work with xformers' attention; leave one of them out")
    if learned:
        stack.layer_importance = LayerImportance(len(layers), layers[0].embed_dim)
    stack.layers = LayerDropModuleList(
        layers,
        rates,
        seed=run_seed(args),
        stack=name,
        returns_tuple=name == "decoder",
        schedule=drop_schedule(args),
        importance=stack.layer_importance if learned else None,
    )


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
