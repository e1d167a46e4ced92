"""State dicts under other names, by tables of modules.

A table maps a module's name to another one, with ``#`` for the number of a layer: ``h.#.ln_1`` to
``decoder.layers.#.self_attn_layer_norm``. What follows, ``weight`` or ``bias``, stays. None is for what has no place
and no use. Turned around, the table leads back.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
Names = Mapping[str, str | None]


def renamed(state_dict: Mapping[str, T], names: Names) -> tuple[dict[str, T], list[str]]:
    """*state_dict* under other names, and the keys for which there is none."""
    found, unknown = {}, []
    for key, value in state_dict.items():
        module, _, kind = key.rpartition(".")
        number = re.search(r"(?<=\.)\d+(?=\.|$)", module)
        pattern = f"{module[: number.start()]}#{module[number.end() :]}" if number else module
        if pattern not in names:
            unknown.append(key)
        elif names[pattern] is not None:
            found[f"{names[pattern].replace('#', number[0] if number else '#')}.{kind}"] = value
    return found, unknown


def turned(names: Names) -> dict[str, str]:
    """The table that leads back. Of names that lead to the same, the first one does."""
    back: dict[str, str] = {}
    for theirs, ours in names.items():
        if ours is not None:
            back.setdefault(ours, theirs)
    return back
