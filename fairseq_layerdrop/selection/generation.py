"""Scores of plans by what their models generate: BLEU or ROUGE."""

from argparse import Namespace
from collections.abc import Sequence

import torch

from ..evaluation import text_scores
from ..plan import STACKS, Unit, UserError, plan_without
from .engine import Engine

# Settings of fairseq's generator that are read here.
SETTINGS = (
    "beam", "max_len_a", "max_len_b", "min_len", "lenpen", "unkpen", "unnormalized", "no_repeat_ngram_size",
    "match_source_len", "temperature",
)  # fmt: skip


class Translator:
    """Generates with a model as fairseq-generate does.

    Args:
        task: fairseq's task, for its generator and dictionaries.
        model: an encoder-decoder model.
        generation: those of fairseq's settings of the generator that are in :data:`SETTINGS`.
        remove_bpe: how subwords are joined, as ``--remove-bpe`` says.

    Raises:
        UserError: a setting is wrong.
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

    def texts(self, samples) -> tuple[list[str], list[str]]:
        """The best hypotheses for all sentences of *samples*, and their references."""
        pad = self.task.target_dictionary.pad()
        hypotheses, references = [], []
        for sample in samples:
            hypotheses += [self._text(beams[0]["tokens"]) for beams in self.generate(sample)]
            references += [self._text(target[target != pad], is_reference=True) for target in sample["target"]]
        return hypotheses, references


class Generation:
    """Runs plans as :class:`.engine.Engine` does, but translates with each: there are no states to share.

    Args:
        engine: has the model and the data.
        task: fairseq's task, for its generator and dictionaries.
        generation: those of fairseq's settings of the generator that are in :data:`SETTINGS`.
        remove_bpe: how subwords are joined, as ``--remove-bpe`` says.
        metric: ``bleu`` is sacreBLEU, ``rouge`` is ROUGE-L over summaries' sentences.

    Raises:
        UserError: the model doesn't translate, or a setting is wrong.
    """

    parts = 1

    def __init__(self, engine: Engine, task, generation: dict, remove_bpe: str | None, metric: str):
        if tuple(engine.structure) != STACKS:
            raise UserError(f"--metric {metric} is for models that translate; of this one, take loss")
        self.engine = engine
        self.translator = Translator(task, engine.stacks.model, generation, remove_bpe)
        self.metric = metric

    def units(self, sublayers: bool) -> tuple[Unit, ...]:
        return self.engine.units(sublayers)

    @torch.inference_mode()
    def score(self, plan: Sequence[Unit], measure=None, part: int = 0) -> float:
        """Minus the metric, so that lower is better, as with losses."""
        sublayers = plan[0][2] is not None
        kept = set(plan)
        dropped = [unit for unit in self.units(sublayers) if unit not in kept]
        with self.engine.stacks.pruned(plan_without(self.engine.structure, dropped)):
            hypotheses, references = self.translator.texts(self.engine.samples)
        name, metric = {"bleu": ("BLEU", "sacrebleu"), "rouge": ("rougeLsum", "rouge")}[self.metric]
        return -text_scores(metric, hypotheses, references).values[name]
