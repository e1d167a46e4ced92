"""``layerdrop_translation``: fairseq's translation task with ``--prune-layers``."""

import logging
from dataclasses import dataclass
from typing import Optional

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from ..evaluation.texts import joins
from .prunable import PrunableTask, prunable_version_of, prune_layers_field
from .self_teaching import TeachingConfig

logger = logging.getLogger(__name__)


@dataclass
class LayerDropTranslationConfig(TranslationConfig, TeachingConfig):
    prune_layers: Optional[str] = prune_layers_field()


@register_task("layerdrop_translation", dataclass=LayerDropTranslationConfig)
class LayerDropTranslationTask(PrunableTask, TranslationTask):
    """Translation whose models can be pruned as they are built; loads checkpoints of stock models too."""

    def build_model(self, cfg, from_checkpoint=False):
        if self.cfg.eval_bleu and not from_checkpoint and self.cfg.eval_bleu_remove_bpe is None:
            how = joins(self.target_dictionary.symbols)
            if how is not None:
                logger.warning(f"--eval-bleu scores subwords as words; give --eval-bleu-remove-bpe {how}")
        return super().build_model(cfg, from_checkpoint)


prunable_version_of("translation", "layerdrop_translation")
