"""Attention sub-layers with some of their heads: how a layer's tuple of names tells of them.

``self_attn`` is an attention with all its heads, ``self_attn.head0-1,3of4`` one of four heads that has three of them.
Heads keep their numbers: what is pruned again is still counted as in the full model.
"""

import re
from collections.abc import Iterable

from .errors import PlanError

ATTENTIONS = ("self_attn", "encoder_attn")
_ENTRY = re.compile(r"(self_attn|encoder_attn)\.head([0-9,-]{1,400})of([0-9]{1,4})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)


def format_numbers(numbers: Iterable[int]) -> str:
    """Ascending numbers as the grammar writes them, with ranges: ``(0, 1, 2, 5)`` is ``0-2,5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def sub_layer(entry: str) -> str:
    """The sub-layer that *entry* tells of, whatever heads it has."""
    return entry.partition(".")[0]


def heads_of(entry: str) -> tuple[tuple[int, ...], int] | None:
    """The heads that *entry* has, and the number of which they are; None where it has all, or isn't an attention."""
    match = _ENTRY.fullmatch(entry)
    if not match:
        return None
    numbers = []
    for run in match[2].split(","):
        first, _, last = run.partition("-")
        if not _NUMBER.fullmatch(first) or (last and not _NUMBER.fullmatch(last)):
            return None
        numbers.extend(range(int(first), int(last or first) + 1))
    return (tuple(numbers), int(match[3])) if numbers else None


def with_heads(entry: str, heads: Iterable[int], total: int) -> str | None:
    """*entry* with these *heads* of *total*; None where there are none."""
    heads = tuple(sorted(heads))
    if not heads:
        return None
    name = sub_layer(entry)
    return name if heads == tuple(range(total)) else f"{name}.head{format_numbers(heads)}of{total}"


def is_entry(entry: str, names: Iterable[str]) -> bool:
    """Whether *entry* is one of the sub-layers *names*, or one of these with heads, written as here."""
    if entry in names:
        return True
    found = heads_of(entry)
    return bool(found and sub_layer(entry) in names and max(found[0]) < found[1] and with_heads(entry, *found) == entry)


def lost(full: str, keep: str | None) -> tuple[str, ...]:
    """What an entry loses that *keep* is left of: its name, or ``self_attn.head2`` for each head; none of the same.

    Raises:
        PlanError: *keep* isn't a part of it.
    """
    if keep is None:
        return (sub_layer(full),)
    if full == keep:
        return ()
    of_keep, of_full = heads_of(keep), heads_of(full)
    if of_keep and sub_layer(full) == sub_layer(keep):
        had, total = of_full or (tuple(range(of_keep[1])), of_keep[1])
        if total == of_keep[1] and set(of_keep[0]) <= set(had):
            return tuple(f"{sub_layer(full)}.head{head}" for head in had if head not in of_keep[0])
    raise PlanError(f"{keep} is no part of {full}")
