"""``layerdrop_translation``: fairseq's translation task with ``--prune-layers``."""

from dataclasses import dataclass
from typing import Optional

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from .prunable import PrunableTask, prunable_version_of, prune_layers_field
from .self_teaching import TeachingConfig


@dataclass
class LayerDropTranslationConfig(TranslationConfig, TeachingConfig):
    prune_layers: Optional[str] = prune_layers_field()


@register_task("layerdrop_translation", dataclass=LayerDropTranslationConfig)
class LayerDropTranslationTask(PrunableTask, TranslationTask):
    """Translation whose models can be pruned as they are built; loads checkpoints of stock models too."""


prunable_version_of("translation", "layerdrop_translation")
