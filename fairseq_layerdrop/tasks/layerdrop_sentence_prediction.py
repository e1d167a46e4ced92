"""``layerdrop_sentence_prediction``: fairseq's task of classifying sentences, or pairs, with ``--prune-layers``."""

from dataclasses import dataclass
from typing import Optional

from fairseq.tasks import register_task
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask

from .prunable import PrunableTask, prunable_version_of, prune_layers_field


@dataclass
class LayerDropSentencePredictionConfig(SentencePredictionConfig):
    prune_layers: Optional[str] = prune_layers_field()


@register_task("layerdrop_sentence_prediction", dataclass=LayerDropSentencePredictionConfig)
class LayerDropSentencePredictionTask(PrunableTask, SentencePredictionTask):
    """Classification whose models can be pruned as they are built; loads checkpoints of stock models too.

    A model that begins as a masked language model gets a new classification head, and one that has the head keeps it.
    """


prunable_version_of("sentence_prediction", "layerdrop_sentence_prediction")
