"""The kinds of files and folders that a model is exported to."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from ..plan import Plan

if TYPE_CHECKING:  # which loads torch
    from ..surgery.checkpoint import Checkpoint


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        checkpoint: of the whole model.
        plan: what to keep of it.
        spec: the plan as the user gave it; None where all is kept.
        ema: whether to take the moving average of the weights.
    """

    checkpoint: "Checkpoint"
    plan: Plan
    spec: str | None = None
    ema: bool = False


class Format(Protocol):
    """A kind of file or folder that a model is exported to."""

    # What `write` can be told beside.
    options: tuple[str, ...]
    # What is in its folder, the first always there; none where it is a file.
    files: tuple[str, ...]
    # What such a folder or file is, in words.
    noun: str

    def write(self, source: Source, path, **options: str | None) -> list[str]:
        """Write the model, whole or not at all, after all checks.

        Returns:
            what to tell of it, in lines.

        Raises:
            UserError: the model can't be of this format, saying all reasons, or can't be written.
        """


# Name -> module and class.
_FORMATS = {
    "fairseq": ("standalone", "FairseqFormat"),
    "ctranslate2": ("ctranslate2", "CTranslate2Format"),
    "huggingface": ("huggingface", "HuggingFaceFormat"),
    "plan": ("standalone", "PlanFormat"),
}
FORMATS = tuple(_FORMATS)


def format_of(name: str) -> Format:
    """The format of a name in :data:`FORMATS`."""
    module, cls = _FORMATS[name]
    return getattr(import_module(f".{module}", __package__), cls)()
