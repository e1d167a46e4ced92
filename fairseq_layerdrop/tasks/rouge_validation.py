"""ROUGE on the validation set while training."""

import json
from argparse import Namespace
from dataclasses import dataclass, field
from typing import ClassVar, Optional

from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.tasks.translation import TranslationConfig

from ..base.errors import UserError
from ..evaluation import Metric, check_joinable
from .prunable import prune_layers_field
from .self_teaching import TeachingConfig


@dataclass
class RougeConfig(TranslationConfig, TeachingConfig):
    """Settings of a translation task with ``--eval-rouge``."""

    prune_layers: Optional[str] = prune_layers_field()
    eval_rouge: bool = field(default=False, metadata={"help": "generate for the validation set and tell its ROUGE"})
    eval_rouge_args: str = field(
        default='{"beam": 4, "min_len": 50, "max_len_b": 150, "no_repeat_ngram_size": 3}',
        metadata={"help": "how to generate then, as JSON: beam, min_len, max_len_a, max_len_b, lenpen, …"},
    )
    eval_rouge_remove_bpe: Optional[str] = field(
        default="sentencepiece", metadata={"help": "what joins subwords: sentencepiece, subword_nmt, or none"}
    )


# As many targets tell whether all of them are such that ROUGE can score them.
_CHECKED = 500


class RougeValidation:
    """Mixed into a translation task, before it among the bases: with ``--eval-rouge`` it logs ROUGE in validation.

    A subclass gives ``rouge_metric``. Each of its scores is logged under its name, so that ``--best-checkpoint-metric
    rougeL --maximize-best-checkpoint-metric`` keeps the best.
    """

    cfg: RougeConfig
    target_dictionary: Dictionary
    metric_settings: ClassVar[dict[str, str]] = dict.fromkeys(("rouge1", "rouge2", "rougeL"), "eval_rouge")

    def build_model(self, cfg, from_checkpoint=False):
        model = super().build_model(cfg, from_checkpoint)
        if self.cfg.eval_rouge:
            try:
                settings = json.loads(self.cfg.eval_rouge_args)
                self.rouge_generator = self.build_generator([model], Namespace(**settings))
            except (ValueError, TypeError) as error:
                raise SystemExit(
                    UserError(f"--eval-rouge-args must be a JSON object, not '{self.cfg.eval_rouge_args}'").code
                ) from error
        return model

    @property
    def rouge_metric(self) -> Metric:
        raise NotImplementedError

    def rouge(self, hypotheses: list[str], references: list[str]) -> dict[str, float]:
        return self.rouge_metric.rouge(hypotheses, references)

    def load_dataset(self, split, *args, **kwargs):
        """Load a split, as fairseq does, and end the program if ROUGE would be wrong for it."""
        super().load_dataset(split, *args, **kwargs)
        targets = getattr(self.datasets[split], "tgt", None)
        if self.cfg.eval_rouge and targets is not None:
            try:
                check_joinable(self.target_dictionary.symbols, self.cfg.eval_rouge_remove_bpe)
                self.rouge_metric.check([self._text(targets[i]) for i in range(min(len(targets), _CHECKED))])
            except UserError as error:
                message = error.message.replace("--remove-bpe", "--eval-rouge-remove-bpe")
                message = message.replace("--tokenizer", "--eval-rouge-tokenizer")
                raise SystemExit(UserError(f"--eval-rouge: {message}").code) from None
        return self.datasets[split]

    def _text(self, tokens) -> str:
        return self.target_dictionary.string(tokens.int().cpu(), self.cfg.eval_rouge_remove_bpe)

    def valid_step(self, sample, model, criterion):
        loss, sample_size, logged = super().valid_step(sample, model, criterion)
        if self.cfg.eval_rouge:
            generated = self.inference_step(self.rouge_generator, [model], sample)
            hypotheses = [self._text(beams[0]["tokens"]) for beams in generated]
            pad = self.target_dictionary.pad()
            references = [self._text(target[target != pad]) for target in sample["target"]]
            scores = self.rouge(hypotheses, references)
            logged["rouge_count"] = len(references)
            logged.update({f"{name}_sum": score * len(references) for name, score in scores.items()})
        return loss, sample_size, logged

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        count = sum(logged.get("rouge_count", 0) for logged in logging_outputs)
        for key in logging_outputs[0] if count else ():
            if key.startswith("rouge") and key.endswith("_sum"):
                total = sum(logged.get(key, 0) for logged in logging_outputs)
                metrics.log_scalar(key.removesuffix("_sum"), total / count, weight=count, round=2)
