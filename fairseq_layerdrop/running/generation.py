"""Scores of plans by what their models generate: BLEU or ROUGE."""

from argparse import Namespace
from collections.abc import Sequence

import torch

from ..base.errors import UserError
from ..evaluation import Metric, Scores, check_joinable
from ..plan import STACKS, Unit, plan_without
from .engine import Engine
from .settings import GENERATED


class Translator:
    """Generates with a model as fairseq-generate does.

    Args:
        task: fairseq's task, for its generator and dictionaries.
        model: an encoder-decoder model.
        generation: those of fairseq's settings of the generator that are in :data:`~.settings.SETTINGS`.
        remove_bpe: how subwords are joined, as ``--remove-bpe`` says.

    Raises:
        UserError: a setting is wrong, or the dictionary has no such subwords.
    """

    def __init__(self, task, model, generation: dict, remove_bpe: str | None):
        if generation["beam"] < 1:
            raise UserError(f"--beam must be at least 1, not {generation['beam']}")
        self.task = task
        self.model = model
        try:
            self.generator = task.build_generator([model], Namespace(**generation))
        except (AssertionError, ValueError) as error:  # fairseq's ways to refuse settings
            raise UserError(f"fairseq can't generate with these settings: {error}") from error
        self.remove_bpe = remove_bpe
        check_joinable(task.target_dictionary.symbols, remove_bpe)
        try:
            self._text(torch.tensor([task.target_dictionary.eos()]))
        except NotImplementedError as error:
            raise UserError(f"unknown --remove-bpe {remove_bpe}") from error

    def _text(self, tokens: torch.Tensor, is_reference: bool = False) -> str:
        """As fairseq-generate writes it: an unknown word of a reference is one that no hypothesis can match."""
        return self.task.target_dictionary.string(tokens.int().cpu(), self.remove_bpe, escape_unk=is_reference)

    @torch.inference_mode()
    def generate(self, sample) -> list:
        """fairseq's hypotheses for the sentences of a batch, best first.

        Raises:
            UserError: the lengths that were asked for can't be met.
        """
        try:
            return self.task.inference_step(self.generator, [self.model], sample)
        except AssertionError as error:  # fairseq's way to say so
            raise UserError(f"these settings generate nothing: {error or 'see --max-len-b, --min-len'}") from error

    def scores(self, samples, metric: Metric) -> Scores:
        """Score the best hypotheses for all sentences of *samples*.

        Raises:
            UserError: the metric isn't for such texts; if the references tell, nothing is generated.
        """
        pad = self.task.target_dictionary.pad()
        targets = [target[target != pad] for sample in samples for target in sample["target"]]
        references = [self._text(target, is_reference=True) for target in targets]
        metric.check(references)
        hypotheses = [self._text(beams[0]["tokens"]) for sample in samples for beams in self.generate(sample)]
        return metric.scores(hypotheses, references)


class Generation:
    """Runs plans as :class:`.engine.Engine` does, but translates with each: there are no states to share.

    Args:
        engine: has the model and the data.
        task: fairseq's task, for its generator and dictionaries.
        generation: those of fairseq's settings of the generator that are in :data:`~.settings.SETTINGS`.
        name: one of :data:`~.settings.GENERATED`.
        metric: that one's, which also says how subwords are joined.

    Raises:
        UserError: the model doesn't translate, or a setting is wrong.
    """

    parts = 1

    def __init__(self, engine: Engine, task, generation: dict, name: str, metric: Metric):
        if tuple(engine.structure) != STACKS:
            raise UserError(f"--metric {name} is for models that translate; of this one, take loss")
        self.engine = engine
        self.translator = Translator(task, engine.stacks.model, generation, metric.remove_bpe)
        self.metric, self.score_name = metric, GENERATED[name][1]

    def units(self, sublayers: bool) -> tuple[Unit, ...]:
        return self.engine.units(sublayers)

    @torch.inference_mode()
    def score(self, plan: Sequence[Unit], measure=None, part: int = 0) -> float:
        """Minus the metric, so that lower is better, as with losses."""
        sublayers = plan[0][2] is not None
        kept = set(plan)
        dropped = [unit for unit in self.units(sublayers) if unit not in kept]
        with self.engine.stacks.pruned(plan_without(self.engine.structure, dropped)):
            return -self.translator.scores(self.engine.samples, self.metric).values[self.score_name]
