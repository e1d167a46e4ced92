"""Chunks of adjacent layers that share their weights (Fan, Grave & Joulin 2020, appendix)."""

from collections.abc import Collection, Sequence

from ..base.errors import UserError


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


def chunks_left(sizes: Sequence[int], kept: Collection[int]) -> str | None:
    """The setting for what is left of chunks of these *sizes* where the layers *kept* stay; None if none share.

    The layers that remain of a chunk are adjacent.
    """
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    left = [sum(layer in kept for layer in range(start, start + size)) for start, size in zip(starts, sizes)]
    return ",".join(str(size) for size in left if size) if max(left) > 1 else None
