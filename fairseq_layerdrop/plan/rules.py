"""Rules: ways to choose layers without data.

Each rule is a pure function ``(count, depth) -> layers``: it names *count* of the layers ``0 .. depth-1``, in ascending
order. ``keep:COUNT@RULE`` keeps the named layers and ``drop:COUNT@RULE`` drops them, except for ``every_other``, which
always speaks of what is kept.
"""

from .errors import PlanError


def every_other(count: int, depth: int) -> tuple[int, ...]:
    """*count* layers to keep, evenly spaced from the first one: ``floor(i * depth / count)``.

    Equals "drop the layers at depth d = 0 (mod 1/p), counted from 1" of Fan, Grave & Joulin (2020), section 3.2.2,
    wherever that is defined (1/p whole, p <= 1/2), and goes on to every other count.
    """
    return tuple(i * depth // count for i in range(count))


def top(count: int, depth: int) -> tuple[int, ...]:
    """The *count* last layers (Sajjad et al. 2020: "top-layer dropping")."""
    return tuple(range(depth - count, depth))


def bottom(count: int, depth: int) -> tuple[int, ...]:
    """The *count* first layers (Sajjad et al. 2020: "bottom-layer dropping")."""
    return tuple(range(count))


def middle(count: int, depth: int) -> tuple[int, ...]:
    """The *count* layers in the middle; dropping them is the "symmetric" strategy of Sajjad et al. (2020).

    Where the ends can't be equal, the upper end is the longer one.
    """
    first = (depth - count) // 2
    return tuple(range(first, first + count))


def _alternate(first_from_top: int, count: int, name: str) -> tuple[int, ...]:
    layers = range(first_from_top, -1, -2)
    if count > len(layers):
        raise PlanError(f"{name} names at most {len(layers)} layers of this stack, not {count}")
    return tuple(sorted(layers[:count]))


def odd_alternate(count: int, depth: int) -> tuple[int, ...]:
    """Every second layer from the top down, with odd numbers as Sajjad et al. (2020) count: from 1.

    Raises:
        PlanError: the stack has fewer odd layers.
    """
    return _alternate((depth - 1) // 2 * 2, count, "odd_alternate")


def even_alternate(count: int, depth: int) -> tuple[int, ...]:
    """Every second layer from the top down, with even numbers as Sajjad et al. (2020) count: from 1.

    Raises:
        PlanError: the stack has fewer even layers.
    """
    return _alternate(depth // 2 * 2 - 1, count, "even_alternate")


RULES = {rule.__name__: rule for rule in (every_other, top, bottom, middle, odd_alternate, even_alternate)}


def kept_layers(verb: str, count: int, how: str, depth: int) -> tuple[int, ...]:
    """The layers that ``VERB:COUNT@HOW`` keeps in a stack of *depth* layers, ascending.

    Args:
        verb: ``keep`` or ``drop``.
        count: how many layers to keep or drop; the caller has checked ``0 < count`` and that some layer stays.
        how: a key of :data:`RULES`.

    Raises:
        PlanError: the rule can't name that many layers.
    """
    if how == "every_other":
        return every_other(count if verb == "keep" else depth - count, depth)
    named = RULES[how](count, depth)
    return named if verb == "keep" else tuple(i for i in range(depth) if i not in named)
