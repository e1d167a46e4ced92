"""Which settings the parts of fairseq's configuration have."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Parts of a configuration whose `_name` is chosen by a flag of another name.
FLAGS = {"model": "arch"}
# What fairseq itself says, for the parts that this package's configurations name: importing fairseq takes seconds.
SNAPSHOT = Path(__file__).with_name("settings.json")


@cache
def _snapshot() -> Mapping:
    """The noted settings; none where another fairseq is installed than they are of."""
    noted = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    try:
        return noted if version("fairseq-fixed") == noted["fairseq-fixed"] else {}
    except PackageNotFoundError:
        return {}


def known_settings(section: str, name: str | None) -> Mapping[str, bool]:
    """The settings that a part of a configuration has, each with whether its default is true.

    Args:
        section: name of the part, as ``optimization`` or ``model``.
        name: its ``_name``, where it has one, as an architecture.

    Raises:
        UserError: there is no such part, or it can't be chosen.
    """
    noted = _snapshot().get(section, {}).get(name or "")
    if isinstance(noted, str):  # an architecture has the settings of its model
        noted = _snapshot()[section][noted]
    if noted is not None:
        return noted
    from .fairseq_settings import settings_of

    return settings_of(section, name)
