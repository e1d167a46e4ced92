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

from .errors import PlanError
from .heads import heads_of, sub_layer, with_heads
from .ladder import Ladder, plan_without
from .plan import STACKS, SUB_LAYERS, Details, Layer, Plan, StackPlan, Structure, format_layers, matching
from .plan_file import PlanFile, check_structure, read_ladder, read_plan
from .rules import RULES, kept_layers

VERBS = ("keep", "drop")
# More digits than any layer number needs, and few enough that a range can't exhaust the memory.
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)
# The beginnings that tell a text of the grammar from the path of a plan file.
_PART = re.compile(r"(encoder|decoder)=|(keep|drop):")

_HEAD = re.compile(r"(self_attn|encoder_attn)\.head([0-9]{1,4})(?:-([0-9]{1,4}))?", re.ASCII)
LEARNED = "learned"

# A layer's number and the name of a sub-layer of it, or of a head as in self_attn.head2, or None for the whole layer.
Item = tuple[int, str | None]


def _order(name: str | None) -> tuple[int, int]:
    """Where the grammar writes an item: whole layers, then each kind of sub-layer followed by its heads."""
    if name is None:
        return -1, -1
    base, _, head = name.partition(".head")
    return SUB_LAYERS.index(base), int(head or -1)


def format_items(items: tuple[Item, ...]) -> str:
    """Items as the grammar writes them: whole layers first, then each kind of sub-layer or head."""
    if len(items) == 1 and items[0][1] is None:
        return "{0}-{0}".format(items[0][0])
    kinds = sorted({name for _, name in items}, key=_order)
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
            ones. ``learned`` keeps the layers of highest learned importance.
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

    def resolve(self, stack: str, full: tuple[Layer, ...], details: Details) -> StackPlan:
        """The plan of a stack whose layers are *full*.

        Raises:
            PlanError: a layer, a sub-layer or a count doesn't fit the stack, or no layer would stay.
        """
        if self.items is None:
            return StackPlan.of_layers(full, self._counted(stack, len(full), details.importance.get(stack)))
        outside = sorted({layer for layer, _ in self.items if layer >= len(full)})
        if outside:
            raise PlanError(f"'{self}': the {stack} has layers 0-{len(full) - 1}, not {format_layers(outside)}")
        for layer, name in self.items:
            base, _, head = (name or "").partition(".head")
            entry = matching(base, full[layer])
            if name is not None and entry is None:
                raise PlanError(
                    f"'{self}': layer {layer} of the {stack} has no {base}, only {' and '.join(full[layer])}"
                )
            if head and int(head) not in _heads(entry, details.heads.get(stack)):
                numbers = format_layers(_heads(entry, details.heads.get(stack)))
                raise PlanError(
                    f"'{self}': the {base} of layer {layer} of the {stack} has heads {numbers}, not {int(head)}"
                )
        keep = tuple(
            tuple(
                left
                for left in (self._left(number, entry, details.heads.get(stack)) for entry in layer)
                if left is not None
            )
            for number, layer in enumerate(full)
        )
        if not any(keep):
            raise PlanError(f"'{self}' leaves no layer of the {stack}; keep at least one")
        return StackPlan(full, keep)

    def _left(self, number: int, entry: str, total: int | None) -> str | None:
        """What the listed items leave of a sub-layer of layer *number*."""
        name = sub_layer(entry)
        heads = {int(item.partition(".head")[2]) for layer, item in self.items if layer == number and item
                 and item.startswith(f"{name}.head")}  # fmt: skip
        named = (number, None) in self.items or (number, name) in self.items
        if not heads:
            return entry if named == (self.verb == "keep") else None
        had = set(_heads(entry, total))
        return with_heads(entry, heads if self.verb == "keep" else had - heads, (heads_of(entry) or (0, total))[1])

    def _counted(self, stack: str, depth: int, importance: tuple[float, ...] | None) -> tuple[int, ...]:
        most = depth if self.verb == "keep" else depth - 1
        if not 1 <= self.count <= most:
            raise PlanError(f"'{self}': the {stack} has {depth} layers, so {self.verb} 1 to {most} of them")
        if self.how == LEARNED:
            if importance is None:
                raise PlanError(
                    f"'{self}': this model has no learned importances of its {stack} layers; train it with "
                    f"--{stack}-layerdrop-learned, or take a rule: {', '.join(RULES)}"
                )
            kept = self.count if self.verb == "keep" else depth - self.count
            return tuple(sorted(sorted(range(depth), key=lambda layer: (-importance[layer], layer))[:kept]))
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

    @property
    def needs_importance(self) -> bool:
        """Whether it asks for the layers of highest learned importance."""
        return any(choice.how == LEARNED for _, choice in self.choices)

    def resolve(self, structure: Structure, details: Details = Details()) -> Plan:  # noqa: B008
        """The plan for a model, with every stack of it.

        Args:
            structure: the model's stacks, each with its layers.
            details: needed where heads or learned importances are asked for.

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
                plans[stack] = choice.resolve(stack, structure[stack], details)
        return Plan(plans)


def drop_spec(whole: Structure, structure: Structure) -> PruneSpec | None:
    """The spec that drops from *whole* the sub-layers and heads that *structure*, of the same depths, doesn't have.

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
        raise PlanError(f"'{spec}': '{text}' is not a layer number or count; write for instance 0-5, 3,4 or 3.ffn")
    return int(text)


def _heads(entry: str, total: int | None) -> tuple[int, ...]:
    """The heads that an attention has."""
    found = heads_of(entry)
    return found[0] if found else tuple(range(total or 0))


def _parse_items(text: str, spec: str) -> tuple[Item, ...]:
    items: list[Item] = []
    for item in text.split(","):
        numbers, dot, name = item.partition(".")
        head = _HEAD.fullmatch(name)
        if dot and name not in SUB_LAYERS and not head:
            raise PlanError(
                f"'{spec}': unknown sub-layer '{name}'; the sub-layers are {', '.join(SUB_LAYERS)}, "
                "and a head is written self_attn.head2"
            )
        first, dash, last = numbers.partition("-")
        low = _parse_number(first, spec)
        high = _parse_number(last, spec) if dash else low
        if high < low:
            raise PlanError(f"'{spec}': the range {item} runs backwards; write {high}-{low}")
        names = [name or None]
        if head:
            low_head, high_head = int(head[2]), int(head[3] or head[2])
            if high_head < low_head:
                raise PlanError(f"'{spec}': the range {item} runs backwards")
            names = [f"{head[1]}.head{number}" for number in range(low_head, high_head + 1)]
        items.extend((layer, name) for layer in range(low, high + 1) for name in names)
    times = Counter(items)
    repeated = sorted(
        {
            layer
            for layer, name in items
            if times[layer, name] > 1
            or (name and times[layer, None])
            or (name and ".head" in name and times[layer, sub_layer(name)])
        }
    )
    if repeated:
        raise PlanError(f"'{spec}' names layer {format_layers(repeated)} more than once")
    return tuple(sorted(items, key=lambda item: (item[0], _order(item[1]))))


def _parse_choice(text: str, spec: str) -> Choice:
    verb, colon, what = text.partition(":")
    if not colon or verb not in VERBS:
        where = "" if text == spec else f" in '{spec}'"
        raise PlanError(
            f"'{text}'{where} must start with keep: or drop:, as in decoder=keep:0,2,4, or be a plan file, FILE.json"
        )
    count, at, how = what.partition("@")
    if not at:
        if _NUMBER.fullmatch(what):
            one, some = f"{verb}:{what}-{what}", f"{verb}:{max(int(what), 1)}@every_other"
            raise PlanError(f"'{spec}': {what} could be a layer's number or how many layers; write {one} or {some}")
        return Choice(verb, items=_parse_items(what, spec))
    is_ladder = how.endswith(".json")
    if how not in RULES and how != LEARNED and not is_ladder:
        rules = ", ".join((*RULES, LEARNED))
        raise PlanError(f"'{spec}': unknown rule '{how}'; the rules are {rules}, or a ladder, FILE.json")
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
