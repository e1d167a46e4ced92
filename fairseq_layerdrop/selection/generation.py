"""Scores of plans by what their models generate: BLEU or ROUGE."""

from collections.abc import Mapping, Sequence

import torch

from ..evaluation import text_scores
from ..plan import Unit, plan_without
from .engine import Engine


class Generation:
    """Runs plans as :class:`.engine.Engine` does, but translates with each: there are no states to share.

    Args:
        engine: has the model and the data.
        task: fairseq's task, for its generator and dictionaries.
        generation: fairseq's settings of the generator: beam, length penalty, lengths, …
        remove_bpe: how subwords are joined, as ``--remove-bpe`` says.
        metric: ``bleu`` is sacreBLEU, ``rouge`` is ROUGE-L over summaries' sentences.

    Attributes:
        evaluations: how many plans have been run so far.
    """

    parts = 1

    def __init__(self, engine: Engine, task, generation, remove_bpe: str | None, metric: str):
        self.engine = engine
        self.task = task
        self.generator = task.build_generator([engine.stacks.model], generation)
        self.remove_bpe = remove_bpe
        self.metric = metric
        self.evaluations = 0

    def units(self, sublayers: bool) -> tuple[Unit, ...]:
        return self.engine.units(sublayers)

    def _text(self, tokens: torch.Tensor) -> str:
        return self.task.target_dictionary.string(tokens.int().cpu(), self.remove_bpe)

    @torch.inference_mode()
    def score(self, plan: Sequence[Unit], measure=None, part: int = 0) -> float:
        """Minus the metric, so that lower is better, as with losses."""
        sublayers = plan[0][2] is not None
        kept = set(plan)
        dropped = [unit for unit in self.units(sublayers) if unit not in kept]
        pad = self.task.target_dictionary.pad()
        hypotheses, references = [], []
        with self.engine.stacks.pruned(plan_without(self.engine.structure, dropped)) as model:
            for sample in self.engine.samples:
                generated = self.task.inference_step(self.generator, [model], sample)
                hypotheses += [self._text(beams[0]["tokens"]) for beams in generated]
                references += [self._text(target[target != pad]) for target in sample["target"]]
        self.evaluations += 1
        name, metric = {"bleu": ("BLEU", "sacrebleu"), "rouge": ("rougeLsum", "rouge")}[self.metric]
        return -text_scores(metric, hypotheses, references).values[name]


def texts(samples: Sequence[Mapping]) -> int:
    """Number of sentences of the data."""
    return sum(len(sample["target"]) for sample in samples)
