"""``layerdrop_language_modeling``: fairseq's language modeling task with ``--prune-layers``."""

from dataclasses import dataclass
from typing import Optional

from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask

from .prunable import PrunableTask, prunable_version_of, prune_layers_field
from .self_teaching import TeachingConfig


@dataclass
class LayerDropLanguageModelingConfig(LanguageModelingConfig, TeachingConfig):
    prune_layers: Optional[str] = prune_layers_field()


@register_task("layerdrop_language_modeling", dataclass=LayerDropLanguageModelingConfig)
class LayerDropLanguageModelingTask(PrunableTask, LanguageModelingTask):
    """Language modeling whose models can be pruned as they are built; loads checkpoints of stock models too."""


prunable_version_of("language_modeling", "layerdrop_language_modeling")
