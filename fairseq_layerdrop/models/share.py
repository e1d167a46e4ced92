"""Adjacent layers that share their weights (Fan, Grave & Joulin 2020, appendix: chunks of two)."""

from collections.abc import Sequence

from torch import nn

from ..plan import Layer


def share_layers(layers: Sequence[nn.Module], structure: Sequence[Layer], chunks: Sequence[int]) -> None:
    """Let the layers of each chunk use the parameters of its first layer, in place.

    The layers stay modules of their own, so that each can lose sub-layers without the other. What the first layer
    hasn't any more comes from the next that has it, and attentions share only where they have the same heads.

    Args:
        layers: of a stack; changed in place.
        structure: the sub-layers that each has.
        chunks: the sizes of the chunks, from first to last.
    """
    start = 0
    for size in chunks:
        shared: dict[tuple, nn.Parameter] = {}
        for number in range(start, start + size):
            sub_layers = {sub_layer.name: sub_layer for sub_layer in structure[number]}
            for prefix, module in layers[number].named_modules():
                for name, parameter in module.named_parameters(recurse=False):
                    key = (prefix, name, sub_layers.get(prefix.partition(".")[0]))
                    setattr(module, name, shared.setdefault(key, parameter))
        start += size
