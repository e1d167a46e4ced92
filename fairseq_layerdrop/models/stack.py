"""Turning a stack of fairseq's into one that draws as LayerDrop should."""

from ..modules import LayerDropModuleList


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
    """
    if rate:
        layers = [stack.layers[i] for i in range(len(stack.layers))]
        stack.layers = LayerDropModuleList(
            layers, [rate] * len(layers), seed=seed, stack=name, returns_tuple=name == "decoder"
        )
