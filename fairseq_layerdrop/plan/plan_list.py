"""Several plans in a text: those for which a training is meant."""

import itertools
import math
import re

from .errors import PlanError
from .grammar import PruneSpec, parse
from .plan_file import PlanFile

_COUNTS = re.compile(r"(?<=keep:|drop:)([0-9,-]+)(?=@)", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", re.ASCII)


def _counts(text: str, spec: str) -> list[str]:
    counts: list[str] = []
    for item in text.split(","):
        match = _RANGE.fullmatch(item)
        if not match or int(match[1]) > int(match[2] or match[1]):
            raise PlanError(f"'{spec}': '{text}' are no counts of layers; write for instance 2,3,4 or 2-4")
        counts.extend(str(count) for count in range(int(match[1]), int(match[2] or match[1]) + 1))
    return counts


def parse_plans(text: str) -> list[tuple[PruneSpec | PlanFile, float]]:
    """Read a ``--layerdrop-plans`` text: ``--prune-layers`` texts with spaces between.

    Where one has a count, it may have several, and stands for all the plans that they give. ``*WEIGHT`` after it says
    how often each of these is drawn, by default 1.

    >>> [(str(spec), weight) for spec, weight in parse_plans("decoder=keep:2-3@every_other decoder=drop:5-5*0.5")]
    [('decoder=keep:2@every_other', 1.0), ('decoder=keep:3@every_other', 1.0), ('decoder=drop:5-5', 0.5)]

    Returns:
        the plans, each with its weight.

    Raises:
        PlanError: a part isn't in the grammar, a weight isn't a number above 0, or there is no plan.
    """
    plans: list[tuple[PruneSpec | PlanFile, float]] = []
    for word in text.split():
        spec, weight = word.rsplit("*", 1) if "*" in word else (word, "1")
        try:
            times = float(weight)
        except ValueError:
            times = math.nan
        if not 0 < times < math.inf:
            raise PlanError(f"'{word}': the weight after * must be a number above 0, not '{weight}'")
        between = _COUNTS.split(spec)
        choices = [_counts(part, spec) if number % 2 else [part] for number, part in enumerate(between)]
        plans.extend((parse("".join(parts)), times) for parts in itertools.product(*choices))
    if not plans:
        raise PlanError("there are no plans; write for instance decoder=keep:2-4@every_other")
    return plans
