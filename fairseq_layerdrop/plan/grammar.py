"""The ``--prune-layers`` text.

::

    SPEC   := PLAN_FILE.json | PART [ "/" PART ]
    PART   := [ "encoder=" | "decoder=" ] CHOICE      no stack named: every stack of the model
    CHOICE := ("keep:" | "drop:") WHAT
    WHAT   := ITEM ("," ITEM)*  |  COUNT "@" HOW      ITEM := 3 | 0-5 | 3.self_attn | 0-5.ffn | 3.self_attn.head2
                                                      HOW  := RULE | learned | LADDER_FILE.json

One number alone is refused, since it could be a layer's or a count: layer 3 alone is written 3-3.
:func:`parse` reads the text without knowing the model; :meth:`PruneSpec.resolve` makes a
:class:`~fairseq_layerdrop.plan.Plan` of it for a model with a given structure.
"""

import re
from collections import Counter
from dataclasses import dataclass

from .choice import LEARNED, Choice, LadderChoice, ListedChoice, RuleChoice
from .errors import PlanError
from .parts import SUB_LAYERS, Item, format_numbers
from .plan import NO_FACTS, STACKS, ModelFacts, Plan, StackPlan, Structure
from .plan_file import PlanFile, read_ladder, read_plan
from .rules import RULES

# More digits than any layer number needs, and few enough that a range can't exhaust the memory.
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)
# The beginnings that tell a text of the grammar from the path of a plan file.
_PART = re.compile(r"(encoder|decoder)=|(keep|drop):")
_HEAD = re.compile(r"(self_attn|encoder_attn)\.head([0-9]{1,4}(?:-[0-9]{1,4})?)", re.ASCII)


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

    @property
    def needs_importance(self) -> bool:
        """Whether it asks for the layers of highest learned importance."""
        return any(isinstance(choice, RuleChoice) and choice.rule == LEARNED for _, choice in self.choices)

    def resolve(self, structure: Structure, facts: ModelFacts = NO_FACTS) -> Plan:
        """The plan for a model, with every stack of it.

        Args:
            structure: the model's stacks, each with its layers.
            facts: needed where heads or learned importances are asked for.

        Raises:
            PlanError: the text names a stack or a layer that the model doesn't have, or leaves a stack empty.
        """
        plans = dict(Plan.whole(structure).stacks)
        for stack, choice in self.choices:
            if stack is not None and stack not in structure:
                raise PlanError(f"'{self}': this model has no {stack}, only {' and '.join(structure)}")
            plans.update(choice.resolve(structure, stack, facts))
        return Plan(plans)


def drop_spec(whole: Structure, structure: Structure) -> PruneSpec | None:
    """The spec that drops from *whole* the sub-layers and heads that *structure*, of the same depths, doesn't have.

    None where there are none. It is how a configuration notes the sub-layers that a model lacks.
    """
    dropped = {stack: StackPlan(whole[stack], layers).dropped_sublayers for stack, layers in structure.items()}
    choices = tuple((stack, ListedChoice("drop", items)) for stack, items in dropped.items() if items)
    return PruneSpec(choices) if choices else None


def _parse_number(text: str, spec: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise PlanError(f"'{spec}': '{text}' is not a layer number or count; write for instance 0-5, 3,4 or 3.ffn")
    return int(text)


def _parse_range(text: str, item: str, spec: str) -> range:
    """The numbers that *text*, in *item*, stands for: ``3`` or ``0-5``."""
    first, dash, last = text.partition("-")
    low = _parse_number(first, spec)
    high = _parse_number(last, spec) if dash else low
    if high < low:
        raise PlanError(f"'{spec}': the range {item} runs backwards; write {high}-{low}")
    return range(low, high + 1)


def _parse_item(text: str, spec: str) -> list[Item]:
    numbers, dot, name = text.partition(".")
    head = _HEAD.fullmatch(name)
    if dot and name not in SUB_LAYERS and not head:
        raise PlanError(
            f"'{spec}': unknown sub-layer '{name}'; the sub-layers are {', '.join(SUB_LAYERS)}, "
            "and a head is written self_attn.head2"
        )
    layers = _parse_range(numbers, text, spec)
    if head:
        return [Item(layer, head[1], number) for number in _parse_range(head[2], text, spec) for layer in layers]
    return [Item(layer, name or None) for layer in layers]


def _parse_items(text: str, spec: str) -> tuple[Item, ...]:
    items = Counter(item for part in text.split(",") for item in _parse_item(part, spec))
    repeated = {
        item.layer
        for item, times in items.items()
        if times > 1 or items.keys() & {Item(item.layer), Item(item.layer, item.name)} - {item}
    }
    if repeated:
        raise PlanError(f"'{spec}' names layer {format_numbers(sorted(repeated))} more than once")
    return tuple(sorted(items, key=lambda item: (item.layer, item.kind)))


def _parse_choice(text: str, spec: str, stack: str | None) -> Choice:
    verb, colon, what = text.partition(":")
    if not colon or verb not in ("keep", "drop"):
        where = "" if text == spec else f" in '{spec}'"
        raise PlanError(
            f"'{text}'{where} must start with keep: or drop:, as in decoder=keep:0,2,4, or be a plan file, FILE.json"
        )
    count, at, how = what.partition("@")
    if not at:
        if _NUMBER.fullmatch(what):
            stack = f"{stack}=" if stack else ""
            one, some = f"{stack}{verb}:{what}-{what}", f"{stack}{verb}:{max(int(what), 1)}@every_other"
            raise PlanError(f"'{spec}': {what} could be a layer's number or how many layers; write {one} or {some}")
        return ListedChoice(verb, _parse_items(what, spec))
    is_ladder = how.endswith(".json")
    if how not in RULES and how != LEARNED and not is_ladder:
        rules = ", ".join((*RULES, LEARNED))
        raise PlanError(f"'{spec}': unknown rule '{how}'; the rules are {rules}, or a ladder, FILE.json")
    number = _parse_number(count, spec)
    if number == 0:
        raise PlanError(f"'{spec}': the count must be at least 1")
    return LadderChoice(verb, number, read_ladder(how)) if is_ladder else RuleChoice(verb, number, how)


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
        choices[stack] = _parse_choice(choice, text, stack)
    return PruneSpec(tuple((stack, choices[stack]) for stack in (None, *STACKS) if stack in choices))
