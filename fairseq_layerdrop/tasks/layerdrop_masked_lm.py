"""``layerdrop_masked_lm``: fairseq's masked language modeling task with ``--prune-layers``."""

from dataclasses import dataclass
from typing import Optional

from fairseq.tasks import register_task
from fairseq.tasks.masked_lm import MaskedLMConfig, MaskedLMTask

from .prunable import PrunableTask, prunable_version_of, prune_layers_field
from .self_teaching import TeachingConfig


@dataclass
class LayerDropMaskedLMConfig(MaskedLMConfig, TeachingConfig):
    prune_layers: Optional[str] = prune_layers_field()


@register_task("layerdrop_masked_lm", dataclass=LayerDropMaskedLMConfig)
class LayerDropMaskedLMTask(PrunableTask, MaskedLMTask):
    """Masked language modeling whose models can be pruned as they are built; loads checkpoints of stock models too."""


prunable_version_of("masked_lm", "layerdrop_masked_lm")
