"""The families of models that can be imported."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import torch

from ..families.encoders import ENCODERS
from ..families.languages import LANGUAGE_MODELS
from ..families.translators import TRANSLATORS
from .folder import ImportFolderError
from .model import Imported, foreign, refuse

# Settings, weights and the folder of the tokenizer -> a model of fairseq's.
Family = Callable[[Mapping, Mapping[str, torch.Tensor], Path], Imported]
# model_type of a config.json -> module and function.
_FAMILIES = {
    **{name: ("encoders", "import_encoder") for name in ENCODERS},
    **{name: ("languages", "import_language_model") for name in LANGUAGE_MODELS},
    **{name: ("translators", "import_translator") for name in TRANSLATORS},
}
FAMILIES = tuple(_FAMILIES)


def family_of(config: Mapping) -> Family:
    """The function that imports the model of these settings.

    Raises:
        ImportFolderError: there is none, or they ask for what fairseq hasn't got.
    """
    model_type = str(config.get("model_type"))
    refuse([(True, what) for what in foreign(config)], model_type)
    if model_type not in _FAMILIES:
        raise ImportFolderError(f"can't import a model of the type '{model_type}', only {', '.join(FAMILIES)}")
    module, function = _FAMILIES[model_type]
    return getattr(import_module(f".{module}", __package__), function)
