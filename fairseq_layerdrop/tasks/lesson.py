"""The passes of a micro-batch in which a network teaches its sub-networks, or agrees with them."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.logging import metrics
from torch.nn import functional

from ..base.errors import UserError
from ..modules import LayerDropModuleList, Skips, adaptive_distillation_loss, distillation_loss

# What a pass skips of each layer, by stack.
Draw = Mapping[str, Sequence[Skips]]


@dataclass
class _Call:
    """A call of the model, as the criterion made it, and what came back."""

    args: tuple
    kwargs: Mapping
    output: tuple


def _heard(model, criterion, sample) -> tuple[tuple, _Call]:
    """What *criterion* returns, and the one call of *model* that it made.

    Raises:
        UserError: it made none or several.
    """
    calls: list[_Call] = []
    hook = model.register_forward_hook(lambda _, *call: calls.append(_Call(*call)), with_kwargs=True)
    try:
        result = criterion(model, sample)
    finally:
        hook.remove()
    if len(calls) != 1:
        raise UserError(
            f"--layerdrop-teacher needs a criterion that calls the model once; {type(criterion).__name__} calls it "
            f"{len(calls)} times"
        )
    return result, calls[0]


def _scored(criterion, model, sample, call: _Call) -> torch.Tensor | None:
    """For each row of an output, a position of a sentence, whether the criterion scores it: 1 or 0; None if all."""
    if "classification_head_name" in call.kwargs:
        return None
    targets = model.get_targets(sample, call.output)
    if call.kwargs.get("masked_tokens") is not None:
        targets = targets[call.kwargs["masked_tokens"]]
    scored = targets.ne(criterion.padding_idx)
    if getattr(criterion, "ignore_prefix_size", 0):
        scored[:, : criterion.ignore_prefix_size] = False
    return scored.flatten().float()


def whole(layers: Mapping[str, LayerDropModuleList]) -> Draw:
    """A draw that skips nothing."""
    return {name: [Skips()] * len(of_stack) for name, of_stack in layers.items()}


@contextlib.contextmanager
def skipping(layers: Mapping[str, LayerDropModuleList], draw: Draw):
    """Within this context passes skip what *draw* says, and draw nothing."""
    with contextlib.ExitStack() as stack:
        for name, skips in draw.items():
            stack.enter_context(layers[name].skipping(skips))
        yield


@dataclass
class Lesson:
    """A micro-batch: functions that take a criterion's place, one a pass.

    Attributes:
        criterion: of the training.
        layers: the model's stacks that can skip layers.
        depth: number of layers of all its stacks.
        students: the sub-networks that learn.
        weight, temperature: of their divergence from the whole network.
        labels: weight of their loss on the labels.
        both_ways: whether the whole network learns from them too.
        logged: what the passes tell, as a criterion does: sums over the sample.
    """

    criterion: FairseqCriterion
    layers: Mapping[str, LayerDropModuleList]
    depth: int
    students: Sequence[Draw]
    weight: float
    temperature: float
    labels: float
    both_ways: bool

    def __post_init__(self):
        self.logged = {"student_kl": 0.0, "student_kept": 0.0, "student_batches": 1}
        if self.labels:
            self.logged["student_loss"] = 0.0

    def learn(self, model, sample):
        """The whole network learns from the labels."""
        with skipping(self.layers, whole(self.layers)):
            result, self.call = _heard(model, self.criterion, sample)
        self.sample_size = result[1]
        if self.students:
            self.scored = _scored(self.criterion, model, sample, self.call)
            rows = self.call.output[0].flatten(0, -2)
            if self.scored is not None and len(self.scored) != len(rows):
                raise UserError(
                    "--layerdrop-teacher needs a criterion that gives the model each sentence once; "
                    f"{type(self.criterion).__name__} doesn't"
                )
            self.teacher = rows if self.both_ways else rows.detach()
            self.call.output = None  # its graph goes with the backward pass
        return result

    def teach(self, draw: Draw, model, sample):
        """The sub-network *draw* learns from the whole network, and from the labels if it is to."""
        share = 1 / len(self.students)
        with skipping(self.layers, draw):
            if self.labels:
                (label_loss, *_), call = _heard(model, self.criterion, sample)
                output, loss = call.output, self.labels * label_loss
                self.logged["student_loss"] += share * label_loss.detach()
            else:
                output, loss = model(*self.call.args, **self.call.kwargs), 0.0
        self.logged["student_kept"] += kept_share(self.layers, draw, self.depth)
        if self.weight:
            divergence = self._divergence(model, output[0].flatten(0, -2))
            self.logged["student_kl"] += share * divergence.detach()
            loss = loss + self.weight * divergence
        loss = share * loss
        for layers in self.layers.values():
            if layers.importance is not None:
                loss = layers.importance.join(loss, self.sample_size)
        return loss, self.sample_size, {}

    def agree(self, model, sample):
        """Both learn from the labels, and each from the other: half of either loss."""
        loss, *rest = self.learn(model, sample)
        return 0.5 * (loss + self.teach(self.students[0], model, sample)[0]), *rest

    def _divergence(self, model, student: torch.Tensor) -> torch.Tensor:
        """How far the *student*'s rows of outputs are from the whole network's, summed."""
        if getattr(self.criterion, "regression_target", False):
            return functional.mse_loss(student.float(), self.teacher.float(), reduction="sum")
        how = (self.scored, self.temperature, self.both_ways)
        softmax = getattr(getattr(model, "decoder", None), "adaptive_softmax", None)
        if softmax is not None:
            return adaptive_distillation_loss(softmax, self.teacher, student, *how)
        return distillation_loss(self.teacher, student, *how)


def kept_share(layers: Mapping[str, LayerDropModuleList], draw: Draw, depth: int) -> float:
    """The share of all *depth* layers of a model that runs in a pass, where a layer counts by its sub-layers."""
    skipped = sum(
        skips.share_of(layers[name][i]) for name, of_stack in draw.items() for i, skips in enumerate(of_stack)
    )
    return 1 - skipped / depth


def log_students(logging_outputs) -> None:
    """Log what the sub-networks did in a training.

    ``student_kl`` is their divergence from the whole network and ``student_loss``, where they learn from labels, that
    loss, both as a criterion's loss is: by sample size, base 2. ``student_kept`` is the part of a whole network
    that ran in their passes: a step cost at most 1 + so much.
    """
    of_students = [logged for logged in logging_outputs if "student_kept" in logged]
    size = sum(logged["sample_size"] for logged in of_students)
    for key in ("student_kl", "student_loss"):
        if any(key in logged for logged in of_students):
            metrics.log_scalar(key, sum(logged[key] for logged in of_students) / size / math.log(2), size, round=3)
    if of_students:
        batches = sum(logged["student_batches"] for logged in of_students)
        metrics.log_scalar(
            "student_kept", sum(logged["student_kept"] for logged in of_students) / batches, batches, round=3
        )
