"""LayerDrop for fairseq: train once, prune to any depth.

Importing this package loads neither torch nor fairseq; its names are loaded when they are asked for. Where fairseq is
loaded already, as for ``--user-dir``, the import registers our models and tasks with it. Elsewhere
``import fairseq_layerdrop.register`` does so, and so does asking for one of the names.
"""

import sys
from importlib import import_module

from .version import __version__

# Name -> its module.
_MODULES = {
    "LayerDropLanguageModelingTask": "tasks",
    "LayerDropMaskedLMTask": "tasks",
    "LayerDropQuestionAnsweringTask": "tasks",
    "LayerDropRobertaModel": "models",
    "LayerDropSentencePredictionTask": "tasks",
    "LayerDropSummarizationTask": "tasks",
    "LayerDropTransformerLanguageModel": "models",
    "LayerDropTransformerModel": "models",
    "LayerDropTranslationTask": "tasks",
    "Data": "running.loading",
    "average": "surgery.average",
    "choose": "reports.choice",
    "describe": "surgery.describe",
    "export": "exports.export",
    "glue": "analysis.glue",
    "import_model": "imports.importing",
    "mixture": "analysis.mixture",
    "prune": "surgery.export",
    "report": "reports.page",
    "score": "evaluation.score",
    "select": "selection.select",
    "sensitivity": "analysis.sensitivity",
    "sweep": "analysis.sweep",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    if not _MODULES[name].startswith(("evaluation.", "reports.")):
        import_module(".register", __name__)
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__


if "fairseq" in sys.modules:
    from . import register  # noqa: F401
