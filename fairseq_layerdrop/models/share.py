"""Adjacent layers that share their weights (Fan, Grave & Joulin 2020, appendix: chunks of two)."""

from torch import nn

from ..plan import UserError


def chunks_of(setting: str | None, depth: int, stack: str) -> list[int]:
    """The sizes of the chunks, from first to last, in which the *depth* layers of a stack share their weights.

    Args:
        setting: ``2`` for chunks of two, the last one smaller where *depth* is odd; ``2,1,2`` for the size of each;
            None for none.

    Raises:
        UserError: the sizes aren't whole numbers from 1, or don't make up the depth.
    """
    if not setting:
        return [1] * depth
    try:
        sizes = [int(size) for size in str(setting).split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1 or (len(sizes) > 1 and sum(sizes) != depth):
        raise UserError(
            f"--{stack}-share-layers must be the size of the chunks, as in 2, or sizes that add up to the {depth} "
            f"layers, as in {','.join(['2'] * (depth // 2) + ['1'] * (depth % 2))}, not {setting}"
        )
    if len(sizes) == 1:
        sizes = [min(sizes[0], depth - start) for start in range(0, depth, sizes[0])]
    return sizes


def share_layers(layers: list[nn.Module], chunks: list[int]) -> None:
    """Let the layers of each chunk use the parameters of its first layer, in place.

    The layers stay modules of their own, so that each can lose sub-layers without the other. A parameter of which
    the first layer has none of the same name and shape, as it was pruned, is taken from the next that has.
    """
    start = 0
    for size in chunks:
        shared: dict[tuple, nn.Parameter] = {}
        for layer in layers[start : start + size]:
            for prefix, module in layer.named_modules():
                for name, parameter in module.named_parameters(recurse=False):
                    key = (prefix, name, tuple(parameter.shape))
                    setattr(module, name, shared.setdefault(key, parameter))
        start += size
