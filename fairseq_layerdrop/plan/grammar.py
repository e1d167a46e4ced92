"""The ``--prune-layers`` text.

::

    SPEC   := PLAN_FILE.json | PART [ "/" PART ]
    PART   := [ "encoder=" | "decoder=" ] CHOICE      no stack named: every stack of the model
    CHOICE := ("keep:" | "drop:") WHAT
    WHAT   := ITEM ("," ITEM)*  |  COUNT "@" HOW      ITEM := 3 | 0-5 | 3.self_attn | 0-5.ffn
                                                      HOW  := RULE | LADDER_FILE.json

:func:`parse` reads the text without knowing the model; :meth:`PruneSpec.resolve` makes a
:class:`~fairseq_layerdrop.plan.Plan` of it for a model with a given structure.
"""

import re
from collections import Counter
from dataclasses import dataclass

from .errors import PlanError
from .ladder import Ladder, plan_without
from .plan import STACKS, SUB_LAYERS, Layer, Plan, StackPlan, Structure, format_layers
from .plan_file import PlanFile, check_structure, read_ladder, read_plan
from .rules import RULES, kept_layers

VERBS = ("keep", "drop")
# More digits than any layer number needs, and few enough that a range can't exhaust the memory.
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)
# The beginnings that tell a text of the grammar from the path of a plan file.
_PART = re.compile(r"(encoder|decoder)=|(keep|drop):")

# A layer's number and the name of a sub-layer of it, or None for the whole layer.
Item = tuple[int, str | None]


def format_items(items: tuple[Item, ...]) -> str:
    """Items as the grammar writes them: whole layers first, then each kind of sub-layer."""
    kinds = (None, *SUB_LAYERS)
    by_kind = {kind: [layer for layer, name in items if name == kind] for kind in kinds}
    return ",".join(
        run + (f".{kind}" if kind else "")
        for kind, layers in by_kind.items()
        for run in format_layers(layers).split(",")
        if run
    )


@dataclass(frozen=True)
class Choice:
    """One ``keep:`` or ``drop:``, of listed layers and sub-layers or of a count by a rule or a ladder.

    Attributes:
        verb: ``keep`` or ``drop``.
        items: the listed layers and sub-layers, ascending; None with a rule.
        count: how many layers the rule or the ladder names, or sub-layers where the ladder has these; None with listed
            ones.
        how: the rule, a key of :data:`~fairseq_layerdrop.plan.rules.RULES`, or the ladder's path; None with listed
            ones.
        ladder: the ladder; None with a rule or listed ones.
    """

    verb: str
    items: tuple[Item, ...] | None = None
    count: int | None = None
    how: str | None = None
    ladder: Ladder | None = None

    def __str__(self) -> str:
        what = f"{self.count}@{self.how}" if self.items is None else format_items(self.items)
        return f"{self.verb}:{what}"

    def resolve(self, stack: str, full: tuple[Layer, ...]) -> StackPlan:
        """The plan of a stack whose layers are *full*.

        Raises:
            PlanError: a layer, a sub-layer or a count doesn't fit the stack, or no layer would stay.
        """
        if self.items is None:
            return StackPlan.of_layers(full, self._counted(stack, len(full)))
        outside = sorted({layer for layer, _ in self.items if layer >= len(full)})
        if outside:
            raise PlanError(f"'{self}': the {stack} has layers 0-{len(full) - 1}, not {format_layers(outside)}")
        for layer, name in self.items:
            if name is not None and name not in full[layer]:
                raise PlanError(
                    f"'{self}': layer {layer} of the {stack} has no {name}, only {' and '.join(full[layer])}"
                )
        keeping = self.verb == "keep"
        keep = tuple(
            tuple(name for name in layer if ((number, None) in self.items or (number, name) in self.items) == keeping)
            for number, layer in enumerate(full)
        )
        if not any(keep):
            raise PlanError(f"'{self}' leaves no layer of the {stack}; keep at least one")
        return StackPlan(full, keep)

    def _counted(self, stack: str, depth: int) -> tuple[int, ...]:
        most = depth if self.verb == "keep" else depth - 1
        if not 1 <= self.count <= most:
            raise PlanError(f"'{self}': the {stack} has {depth} layers, so {self.verb} 1 to {most} of them")
        try:
            return kept_layers(self.verb, self.count, self.how, depth)
        except PlanError as error:
            raise PlanError(f"'{self}': the {stack} has {depth} layers and {error}") from None


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

    def resolve(self, structure: Structure) -> Plan:
        """The plan for a model, with every stack of it.

        Args:
            structure: the model's stacks, each with its layers.

        Raises:
            PlanError: the text names a stack or a layer that the model doesn't have, or leaves a stack empty.
        """
        plans = {stack: StackPlan.whole(full) for stack, full in structure.items()}
        for named, choice in self.choices:
            if named is not None and named not in structure:
                raise PlanError(f"'{self}': this model has no {named}, only {' and '.join(structure)}")
            if choice.ladder:
                check_structure(choice.ladder.full, structure, choice.how)
                laddered = plan_without(structure, choice.ladder.removed(choice.verb, choice.count, named))
                plans.update({stack: laddered.stacks[stack] for stack in ((named,) if named else structure)})
                continue
            for stack in (named,) if named else structure:
                plans[stack] = choice.resolve(stack, structure[stack])
        return Plan(plans)


def drop_spec(whole: Structure, structure: Structure) -> PruneSpec | None:
    """The spec that drops from *whole* the sub-layers that *structure*, of the same depths, doesn't have.

    None where there are none. It is how a configuration notes the sub-layers that a model lacks.
    """
    choices = []
    for stack, layers in structure.items():
        plan = StackPlan(whole[stack], tuple(layers))
        if plan.dropped_sublayers:
            choices.append((stack, Choice("drop", items=plan.dropped_sublayers)))
    return PruneSpec(tuple(choices)) if choices else None


def _parse_number(text: str, spec: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise PlanError(f"'{spec}': '{text}' is not a layer number or count; write for instance 3, 0-5 or 3.ffn")
    return int(text)


def _parse_items(text: str, spec: str) -> tuple[Item, ...]:
    items: list[Item] = []
    for item in text.split(","):
        numbers, dot, name = item.partition(".")
        if dot and name not in SUB_LAYERS:
            raise PlanError(f"'{spec}': unknown sub-layer '{name}'; the sub-layers are {', '.join(SUB_LAYERS)}")
        first, dash, last = numbers.partition("-")
        low = _parse_number(first, spec)
        high = _parse_number(last, spec) if dash else low
        if high < low:
            raise PlanError(f"'{spec}': the range {item} runs backwards; write {high}-{low}")
        items.extend((layer, name or None) for layer in range(low, high + 1))
    whole = {layer for layer, name in items if name is None}
    times = Counter(items)
    repeated = sorted({layer for layer, name in items if times[layer, name] > 1 or (name and layer in whole)})
    if repeated:
        raise PlanError(f"'{spec}' names layer {format_layers(repeated)} more than once")
    return tuple(sorted(items, key=lambda item: (item[0], SUB_LAYERS.index(item[1]) if item[1] else -1)))


def _parse_choice(text: str, spec: str) -> Choice:
    verb, colon, what = text.partition(":")
    if not colon or verb not in VERBS:
        where = "" if text == spec else f" in '{spec}'"
        raise PlanError(
            f"'{text}'{where} must start with keep: or drop:, as in decoder=keep:0,2,4, or be a plan file, FILE.json"
        )
    count, at, how = what.partition("@")
    if not at:
        return Choice(verb, items=_parse_items(what, spec))
    is_ladder = how.endswith(".json")
    if how not in RULES and not is_ladder:
        raise PlanError(f"'{spec}': unknown rule '{how}'; the rules are {', '.join(RULES)}, or a ladder, FILE.json")
    number = _parse_number(count, spec)
    if number == 0:
        raise PlanError(f"'{spec}': the count must be at least 1")
    return Choice(verb, count=number, how=how, ladder=read_ladder(how) if is_ladder else None)


def parse(text: str) -> PruneSpec | PlanFile:
    """Read a ``--prune-layers`` text, or the plan file that it names.

    >>> str(parse("decoder=keep:3@every_other/encoder=drop:1,2"))
    'encoder=drop:1-2/decoder=keep:3@every_other'

    Raises:
        PlanError: the text isn't in the grammar, or the plan file is missing or wrong; one line says where and what
            would be right.
    """
    if text.endswith(".json") and not _PART.match(text):
        return read_plan(text)
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
