"""One ``keep:`` or ``drop:`` of the grammar: of listed items, of a count by a rule, or of a count by a ladder."""

from dataclasses import dataclass

from .errors import PlanError
from .ladder import Ladder, plan_without
from .parts import Item, Layer, SubLayer, format_items, format_numbers
from .plan import ModelFacts, StackPlan, Structure, check_structure
from .rules import RULES, kept_layers

LEARNED = "learned"


@dataclass(frozen=True)
class Choice:
    """What all choices have: *verb*, which is ``keep`` or ``drop``."""

    verb: str

    def resolve(self, structure: Structure, stack: str | None, facts: ModelFacts) -> dict[str, StackPlan]:
        """The plan of *stack*, or of each stack where it is None.

        Raises:
            PlanError: the choice doesn't fit the model, or no layer of a stack would stay.
        """
        return {name: self._plan(name, structure[name], facts) for name in (structure if stack is None else (stack,))}

    def _plan(self, stack: str, full: tuple[Layer, ...], facts: ModelFacts) -> StackPlan:
        raise NotImplementedError


@dataclass(frozen=True)
class ListedChoice(Choice):
    """Layers, sub-layers and heads by their numbers, ascending, as in ``drop:2,3.ffn``."""

    items: tuple[Item, ...]

    def __str__(self) -> str:
        return f"{self.verb}:{format_items(self.items)}"

    def _plan(self, stack: str, full: tuple[Layer, ...], facts: ModelFacts) -> StackPlan:
        outside = sorted({item.layer for item in self.items if item.layer >= len(full)})
        if outside:
            raise PlanError(f"'{self}': the {stack} has layers 0-{len(full) - 1}, not {format_numbers(outside)}")
        total = facts.heads.get(stack, 0)
        for number, name, head in self.items:
            sub_layer = full[number].find(name)
            if name is not None and sub_layer is None:
                has = " and ".join(full[number].texts)
                raise PlanError(f"'{self}': layer {number} of the {stack} has no {name}, only {has}")
            if sub_layer and head is not None and head not in sub_layer.heads_of(total):
                has = format_numbers(sub_layer.heads_of(total))
                raise PlanError(f"'{self}': the {name} of layer {number} of the {stack} has heads {has}, not {head}")
        keep = tuple(
            Layer(filter(None, (self._left(number, sub_layer, total) for sub_layer in layer)))
            for number, layer in enumerate(full)
        )
        if not any(keep):
            raise PlanError(f"'{self}' leaves no layer of the {stack}; keep at least one")
        return StackPlan(full, keep)

    def _left(self, layer: int, sub_layer: SubLayer, total: int) -> SubLayer | None:
        """What stays of a sub-layer in a stack whose attentions have *total* heads."""
        whole = Item(layer, sub_layer.name)
        heads = {item.head for item in self.items if item.head is not None and item[:2] == whole[:2]}
        if not heads:
            named = whole in self.items or Item(layer) in self.items
            return sub_layer if named == (self.verb == "keep") else None
        kept = heads if self.verb == "keep" else {*sub_layer.heads_of(total)} - heads
        return sub_layer.with_heads(kept, sub_layer.total or total)


@dataclass(frozen=True)
class RuleChoice(Choice):
    """*count* layers of a stack by a rule, a key of :data:`~.rules.RULES`; or by their ``learned`` importance."""

    count: int
    rule: str

    def __str__(self) -> str:
        return f"{self.verb}:{self.count}@{self.rule}"

    def _plan(self, stack: str, full: tuple[Layer, ...], facts: ModelFacts) -> StackPlan:
        depth = len(full)
        most = depth if self.verb == "keep" else depth - 1
        if not 1 <= self.count <= most:
            raise PlanError(f"'{self}': the {stack} has {depth} layers, so {self.verb} 1 to {most} of them")
        if self.rule == LEARNED:
            importance = facts.importance.get(stack)
            if importance is None:
                raise PlanError(
                    f"'{self}': this model has no learned importances of its {stack} layers; train it with "
                    f"--{stack}-layerdrop-learned, or take a rule: {', '.join(RULES)}"
                )
            best = sorted(range(depth), key=lambda layer: (-importance[layer], layer))
            return StackPlan.of_layers(full, best[: self.count if self.verb == "keep" else depth - self.count])
        try:
            return StackPlan.of_layers(full, kept_layers(self.verb, self.count, self.rule, depth))
        except PlanError as error:
            raise PlanError(f"'{self}': the {stack} has {depth} layers and {error}") from None


@dataclass(frozen=True)
class LadderChoice(Choice):
    """*count* of what a ladder removes; without a stack, that is of all its stacks together."""

    count: int
    ladder: Ladder

    def __str__(self) -> str:
        return f"{self.verb}:{self.count}@{self.ladder.path}"

    def resolve(self, structure: Structure, stack: str | None, facts: ModelFacts) -> dict[str, StackPlan]:
        check_structure(self.ladder.full, structure, self.ladder.path)
        plans = plan_without(structure, self.ladder.removed(self.verb, self.count, stack)).stacks
        return dict(plans) if stack is None else {stack: plans[stack]}
