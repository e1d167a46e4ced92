"""A network that teaches its own sub-networks while it trains (``--layerdrop-teacher``)."""

import contextlib
import functools
import logging
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Optional

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from ..base.errors import UserError
from ..models import refuse_dropping_heads
from ..modules import (
    LayerDropModuleList,
    Skips,
    draw_one,
    sub_layers_of,
)
from ..plan import StackPlan, parse_plans
from ..surgery.config import SUBLAYERS_SETTING, model_facts, model_structure
from ..surgery.state import stacks_of
from .lesson import Draw, Lesson, kept_share

logger = logging.getLogger(__name__)


@dataclass
class TeachingConfig(FairseqDataclass):
    """Settings of every task."""

    layerdrop_teacher: ChoiceEnum(["none", "self", "r_drop"]) = field(  # type: ignore[valid-type]
        default="none",
        metadata={
            "help": "self: in each update the whole network learns from the labels, and the sub-network that LayerDrop "
            "draws from the whole network's distribution. r_drop: both learn from the labels, and each from the other"
        },
    )
    layerdrop_teacher_weight: float = field(
        default=1.0,
        metadata={"help": "weight of what --layerdrop-teacher adds to the loss: the divergence of the distributions"},
    )
    layerdrop_teacher_temperature: float = field(
        default=1.0, metadata={"help": "temperature of the distributions that --layerdrop-teacher compares"}
    )
    layerdrop_teacher_labels: float = field(
        default=0.0,
        metadata={"help": "weight at which the sub-networks of --layerdrop-teacher self learn from the labels too"},
    )
    layerdrop_plans: Optional[str] = field(
        default=None,
        metadata={
            "help": "the sub-networks for --layerdrop-teacher, in place of LayerDrop's: --prune-layers texts with "
            "spaces between, where a count may be several, as in decoder=keep:2-4@every_other plan.json*0.5; *WEIGHT "
            "says how often each is drawn"
        },
    )
    layerdrop_sandwich: bool = field(
        default=False,
        metadata={"help": "teach two of --layerdrop-plans in each update: the smallest, and one of the others"},
    )


_DEFAULTS: dict[str, Any] = {
    item.name: item.default for item in fields(TeachingConfig) if item.name.startswith("layerdrop_")
}


def skips_of(plan: StackPlan, layers: Sequence[torch.nn.Module]) -> list[Skips]:
    """What a pass skips of each of *layers* to compute as the pruned stack does."""
    skips = []
    for number, layer in enumerate(layers):
        left = plan.keep[number]
        gone = {name for name in sub_layers_of(layer) if left.find(name) is None}
        heads: dict[str, tuple[int, ...]] = {}
        for sub_layer in plan.full[number]:
            kept = left.find(sub_layer.name) or sub_layer
            if kept.heads:  # heads keep the numbers that they have in the full model
                numbers = sub_layer.heads_of(kept.total)
                heads[sub_layer.name] = tuple(i for i, head in enumerate(numbers) if head not in kept.heads)
        skips.append(Skips.of(layer, not left, gone, heads))
    return skips


def _members(layers: LayerDropModuleList) -> list[torch.nn.Module]:
    return [layers[number] for number in range(len(layers))]


def _layers_of(model) -> dict[str, LayerDropModuleList]:
    return {module.stack: module for module in model.modules() if isinstance(module, LayerDropModuleList)}


class Teaching:
    """What ``--layerdrop-teacher`` does in a training.

    In each micro-batch the whole network learns from the labels, as in a training without LayerDrop, and then one or
    two sub-networks learn from its distribution (in-place distillation and the sandwich rule: Yu & Huang 2019,
    1903.05134). A sub-network that happens to be the whole network has nothing to learn, and its pass is left out. With
    ``r_drop`` the loss is that of Liang et al. (2021, 2106.14448), halved, so that its gradients have the size of the
    plain training's: both passes learn from the labels, and each from the other; the second is of the sub-network, and
    without rates or plans of the whole network.

    A pass of its own comes with a backward pass of its own, so that the activations of one pass are in memory at a
    time; with ``r_drop`` those of two. The gradients are reduced over processes in the last one.

    Raises:
        UserError: a setting is wrong, or settings exclude each other.
    """

    def __init__(self, settings) -> None:
        given = {name: getattr(settings, name, default) for name, default in _DEFAULTS.items()}
        self.weight = given["layerdrop_teacher_weight"]
        self.temperature = given["layerdrop_teacher_temperature"]
        self.labels = given["layerdrop_teacher_labels"]
        self.plans = parse_plans(given["layerdrop_plans"]) if given["layerdrop_plans"] is not None else []
        self.sandwich = given["layerdrop_sandwich"]
        self.both_ways = str(given["layerdrop_teacher"]) == "r_drop"
        self._depth = 0
        self.draws: list[tuple[Draw, float]] = []
        self._update, self._micro_batch = 0, 0
        for name in ("weight", "labels"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"--layerdrop-teacher-{name} must be 0 or more, not {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"--layerdrop-teacher-temperature must be above 0, not {self.temperature}")
        if self.sandwich and len(self.plans) < 2:
            raise UserError("--layerdrop-sandwich needs several --layerdrop-plans, as in decoder=keep:2-4@every_other")
        if self.both_ways and (self.labels or self.sandwich):
            flag = "--layerdrop-teacher-labels" if self.labels else "--layerdrop-sandwich"
            raise UserError(f"{flag} is for --layerdrop-teacher self, not for r_drop; leave it out")
        if self.both_ways:
            self.labels = 1.0

    @classmethod
    def of(cls, settings) -> Optional["Teaching"]:
        """The teaching that a task's *settings* ask for, if they do.

        Raises:
            UserError: see above; or nothing would read one of them.
        """
        given = {name: getattr(settings, name, default) for name, default in _DEFAULTS.items()}
        if str(given["layerdrop_teacher"]) != "none":
            return cls(settings)
        for name, value in given.items():
            if name != "layerdrop_teacher" and value != _DEFAULTS[name]:
                raise UserError(
                    f"--{name.replace('_', '-')} is for --layerdrop-teacher; leave it out, or give that too"
                )
        return None

    @property
    def needs(self) -> dict[str, bool]:
        """What :func:`~fairseq_layerdrop.models.check_training` is to know."""
        return {"teaches": True, "agrees": self.both_ways}

    def begin(self, model, cfg) -> None:
        """Take the *model* that is to be trained, with its configuration *cfg*.

        Raises:
            UserError: it isn't one of ours, a plan doesn't fit it, or both plans and rates are given.
        """
        if SUBLAYERS_SETTING not in cfg:
            raise UserError("--layerdrop-teacher works with our architectures; give --arch layerdrop_…")
        layers = _layers_of(model)
        learned = [name for name, of_stack in layers.items() if of_stack.importance is not None]
        rates = [name for name, of_stack in layers.items() if of_stack.rates]
        if learned and (self.plans or not (self.weight or self.labels)):
            why = "--layerdrop-plans" if self.plans else "a --layerdrop-teacher-weight of 0"
            raise UserError(f"--{learned[0]}-layerdrop-learned and {why} exclude each other; leave one out")
        if self.plans and rates:
            raise UserError(
                f"--layerdrop-plans and the rates of the {rates[0]} exclude each other: the sub-networks are either of "
                "the plans or drawn; give one"
            )
        self._depth = sum(len(stack.layers) for stack in stacks_of(model).values())
        structure = model_structure(cfg)
        for spec, weight in self.plans:
            plan = spec.resolve(structure, model_facts(cfg))
            draw = {name: skips_of(plan.stacks[name], _members(of_stack)) for name, of_stack in layers.items()}
            self.draws.append((draw, weight))
        for name in layers:
            if any(skips.heads for draw, _ in self.draws for skips in draw[name]):
                refuse_dropping_heads(cfg, name, "heads in --layerdrop-plans")
        self.draws.sort(key=lambda draw: kept_share(layers, draw[0], self._depth))
        if not (self.plans or rates or self.both_ways):
            logger.warning(
                "--layerdrop-teacher has no sub-network to teach: all LayerDrop rates are 0, and there are no "
                "--layerdrop-plans"
            )

    def students(self, layers: Mapping[str, LayerDropModuleList], update: int) -> list[Draw]:
        """The sub-networks of this pass."""
        if update != self._update:
            self._update, self._micro_batch = update, 0
        if self.plans:
            fixed = self.draws[:1] if self.sandwich else []
            others = self.draws[len(fixed) :]
            number = draw_one(
                [weight for _, weight in others],
                seed=next(iter(layers.values())).seed,
                stream=zlib.crc32(b"plans"),
                update=update,
                micro_batch=self._micro_batch,
            )
            draws = [draw for draw, _ in (*fixed, others[number])]
        else:
            draws = [{name: of_stack.draw() for name, of_stack in layers.items()}]
        self._micro_batch += 1
        runs_whole = self.both_ways or any(of_stack.importance is not None for of_stack in layers.values())
        return [draw for draw in draws if runs_whole or any(any(skips) for skips in draw.values())]

    def train_step(self, step, sample, model, criterion, update: int):
        """A micro-batch of the training.

        Args:
            step: takes a function in the criterion's place forward and backward, as fairseq's ``train_step`` does.
            sample, model, criterion: of the training.
            update: number of updates done.

        Returns:
            what fairseq's ``train_step`` does.
        """
        layers = _layers_of(model)
        model.set_num_updates(update)  # draws are keyed by it
        students = self.students(layers, update) if self.weight or self.labels else []
        lesson = Lesson(
            criterion, layers, self._depth, students, self.weight, self.temperature, self.labels, self.both_ways
        )
        if self.both_ways:
            loss, sample_size, logged = step(lesson.agree)
        else:
            with _local(model, bool(students)):
                loss, sample_size, logged = step(lesson.learn)
            for number, draw in enumerate(students, 1):
                with _local(model, number < len(students)):
                    step(functools.partial(lesson.teach, draw))
        return loss, sample_size, {**logged, **lesson.logged}


def _local(model, wanted: bool):
    """Where *wanted*, a context in which gradients stay in this process."""
    return model.no_sync() if wanted and hasattr(model, "no_sync") else contextlib.nullcontext()
