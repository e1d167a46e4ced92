"""LayerDrop for fairseq: train once, prune to any depth.

``--user-dir`` imports this module: it registers the models and tasks and makes fairseq's checkpoints loadable.
"""

import logging

# Importing fairseq's tasks tells at level INFO that tensorboardX isn't there, before any command says anything.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)

from .models import (  # noqa: E402
    LayerDropRobertaModel,
    LayerDropTransformerLanguageModel,
    LayerDropTransformerModel,
)
from .surgery import allow_fairseq_types, copy_whole, trust_own_processes  # noqa: E402
from .tasks import (  # noqa: E402
    LayerDropLanguageModelingTask,
    LayerDropMaskedLMTask,
    LayerDropQuestionAnsweringTask,
    LayerDropSentencePredictionTask,
    LayerDropSummarizationTask,
    LayerDropTranslationTask,
    load_checkpoints_as_prunable,
    mend_averages,
)
from .version import __version__  # noqa: E402

__all__ = [
    "LayerDropLanguageModelingTask",
    "LayerDropMaskedLMTask",
    "LayerDropQuestionAnsweringTask",
    "LayerDropRobertaModel",
    "LayerDropSentencePredictionTask",
    "LayerDropSummarizationTask",
    "LayerDropTransformerLanguageModel",
    "LayerDropTransformerModel",
    "LayerDropTranslationTask",
    "__version__",
]

allow_fairseq_types()
trust_own_processes()
copy_whole()
load_checkpoints_as_prunable()
mend_averages()
