"""The ``--prune-layers`` text.

::

    SPEC   := PART [ "/" PART ]
    PART   := [ "encoder=" | "decoder=" ] CHOICE      no stack named: every stack of the model
    CHOICE := ("keep:" | "drop:") WHAT
    WHAT   := ITEM ("," ITEM)*  |  COUNT "@" RULE     ITEM := 3 | 0-5

:func:`parse` reads the text without knowing the model; :meth:`PruneSpec.resolve` makes a
:class:`~fairseq_layerdrop.plan.Plan` of it for a model with given depths.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import PlanError
from .plan import STACKS, Plan, StackPlan, format_layers
from .rules import RULES, kept_layers

VERBS = ("keep", "drop")
# More digits than any layer number needs, and few enough that a range can't exhaust the memory.
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)


@dataclass(frozen=True)
class Choice:
    """One ``keep:`` or ``drop:``, of listed layers or of a count by a rule.

    Attributes:
        verb: ``keep`` or ``drop``.
        layers: the listed layers, ascending; None with a rule.
        count: how many layers the rule names; None with listed layers.
        how: the rule, a key of :data:`~fairseq_layerdrop.plan.rules.RULES`; None with listed layers.
    """

    verb: str
    layers: tuple[int, ...] | None = None
    count: int | None = None
    how: str | None = None

    def __str__(self) -> str:
        what = f"{self.count}@{self.how}" if self.layers is None else format_layers(self.layers)
        return f"{self.verb}:{what}"

    def resolve(self, stack: str, depth: int) -> StackPlan:
        """The plan of a stack with *depth* layers.

        Raises:
            PlanError: a layer or a count doesn't fit the stack, or no layer would stay.
        """
        if self.layers is not None:
            outside = [layer for layer in self.layers if layer >= depth]
            if outside:
                raise PlanError(f"'{self}': the {stack} has layers 0-{depth - 1}, not {format_layers(tuple(outside))}")
            kept = self.layers if self.verb == "keep" else tuple(i for i in range(depth) if i not in self.layers)
        else:
            most = depth if self.verb == "keep" else depth - 1
            if not 1 <= self.count <= most:
                raise PlanError(f"'{self}': the {stack} has {depth} layers, so {self.verb} 1 to {most} of them")
            try:
                kept = kept_layers(self.verb, self.count, self.how, depth)
            except PlanError as error:
                raise PlanError(f"'{self}': the {stack} has {depth} layers and {error}") from None
        if not kept:
            raise PlanError(f"'{self}' leaves no layer of the {stack}; keep at least one")
        return StackPlan(depth, kept)


@dataclass(frozen=True)
class PruneSpec:
    """A parsed ``--prune-layers`` text; ``str()`` gives its canonical form, which parses to an equal value.

    Attributes:
        choices: pairs of a stack and what to choose of it, in the order of
            :data:`~fairseq_layerdrop.plan.STACKS`; the stack is None where the choice is for every stack.
    """

    choices: tuple[tuple[str | None, Choice], ...]

    def __str__(self) -> str:
        return "/".join(f"{stack}={choice}" if stack else str(choice) for stack, choice in self.choices)

    def resolve(self, depths: Mapping[str, int]) -> Plan:
        """The plan for a model, with every stack of it.

        Args:
            depths: number of layers of each stack that the model has, by name.

        Raises:
            PlanError: the text names a stack or a layer that the model doesn't have, or leaves a stack empty.
        """
        plans = {stack: StackPlan.whole(depth) for stack, depth in depths.items()}
        for named, choice in self.choices:
            if named is not None and named not in depths:
                raise PlanError(f"'{self}': this model has no {named}, only {' and '.join(depths)}")
            for stack in (named,) if named else depths:
                plans[stack] = choice.resolve(stack, depths[stack])
        return Plan(plans)


def _parse_number(text: str, spec: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise PlanError(f"'{spec}': '{text}' is not a layer number or count; write for instance 3 or 0-5")
    return int(text)


def _parse_items(text: str, spec: str) -> tuple[int, ...]:
    layers: list[int] = []
    for item in text.split(","):
        first, dash, last = item.partition("-")
        low = _parse_number(first, spec)
        high = _parse_number(last, spec) if dash else low
        if high < low:
            raise PlanError(f"'{spec}': the range {item} runs backwards; write {high}-{low}")
        layers.extend(range(low, high + 1))
    repeated = sorted(layer for layer, times in Counter(layers).items() if times > 1)
    if repeated:
        raise PlanError(f"'{spec}' names layer {format_layers(tuple(repeated))} more than once")
    return tuple(sorted(layers))


def _parse_choice(text: str, spec: str) -> Choice:
    verb, colon, what = text.partition(":")
    if not colon or verb not in VERBS:
        raise PlanError(f"'{spec}': '{text}' must start with keep: or drop:, as in decoder=keep:0,2,4")
    count, at, how = what.partition("@")
    if not at:
        return Choice(verb, layers=_parse_items(what, spec))
    if how not in RULES:
        raise PlanError(f"'{spec}': unknown rule '{how}'; the rules are {', '.join(RULES)}")
    number = _parse_number(count, spec)
    if number == 0:
        raise PlanError(f"'{spec}': the count must be at least 1")
    return Choice(verb, count=number, how=how)


def parse(text: str) -> PruneSpec:
    """Read a ``--prune-layers`` text.

    >>> str(parse("decoder=keep:3@every_other/encoder=drop:1,2"))
    'encoder=drop:1-2/decoder=keep:3@every_other'

    Raises:
        PlanError: the text isn't in the grammar; one line says where and what would be right.
    """
    choices: dict[str | None, Choice] = {}
    for part in re.split(r"/(?=(?:encoder|decoder)=)", text):
        stack, equals, choice = part.partition("=")
        if not equals:
            stack, choice = None, part
        elif stack not in STACKS:
            raise PlanError(f"'{text}': unknown stack '{stack}'; the stacks are {' and '.join(STACKS)}")
        if stack in choices or None in choices:
            raise PlanError(f"'{text}' chooses twice for the {stack}; name each stack once")
        choices[stack] = _parse_choice(choice, text)
    return PruneSpec(tuple((stack, choices[stack]) for stack in (None, *STACKS) if stack in choices))
