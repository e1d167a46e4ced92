"""``layerdrop_sentence_prediction``: fairseq's task of classifying sentences, or pairs, with ``--prune-layers``."""

from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from fairseq.data import SortDataset
from fairseq.tasks import register_task
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask

from .prunable import PrunableTask, prunable_version_of, prune_layers_field
from .self_teaching import TeachingConfig


@dataclass
class LayerDropSentencePredictionConfig(SentencePredictionConfig, TeachingConfig):
    prune_layers: Optional[str] = prune_layers_field()
    group_by_length: bool = field(
        default=False,
        metadata={
            "help": "take inputs of about the same length into a batch, so that less of it is padding; train with "
            "--required-batch-size-multiple 1, as otherwise the longest may be left out"
        },
    )


@register_task("layerdrop_sentence_prediction", dataclass=LayerDropSentencePredictionConfig)
class LayerDropSentencePredictionTask(PrunableTask, SentencePredictionTask):
    """Classification whose models can be pruned as they are built; loads checkpoints of stock models too.

    A model that begins as a masked language model gets a new classification head, and one that has the head keeps it.
    """

    def load_dataset(self, split, combine=False, **kwargs):
        """Load a split, as fairseq does; with ``group_by_length`` in the order of length, its own among equals.

        That goes for validation too. The order of the batches is for the epoch's iterator to shuffle, in training.
        """
        super().load_dataset(split, combine, **kwargs)
        if self.cfg.group_by_length:
            dataset = self.datasets[split]
            rank = np.argsort(dataset.ordered_indices())
            lengths = np.array([dataset.num_tokens(index) for index in range(len(dataset))])
            self.datasets[split] = SortDataset(dataset, sort_order=[rank, lengths])
        return self.datasets[split]


prunable_version_of("sentence_prediction", "layerdrop_sentence_prediction")
