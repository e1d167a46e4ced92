"""Pre-trained models of Hugging Face's transformers as checkpoints of fairseq."""

import os
import shutil
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path

from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

from ..base.errors import UserError
from ..base.files import write_folder_atomically
from ..surgery.checkpoint import Checkpoint
from ..surgery.checkpoint_file import save_checkpoint
from ..surgery.config import EPS_SETTING, complete_architecture
from ..surgery.export import export_checkpoint, pruned_settings
from .families import family_of
from .folder import ImportFolderError, read_config, read_weights
from .model import Imported
from .tokens import TOKENIZER_FILES

CHECKPOINT = "checkpoint.pt"
_SECTIONS = ("common", "distributed_training", "dataset", "optimization", "checkpoint")
# Files of transformers' folder that go along: with them, an export goes back to the same class and tokenizer.
_KEPT = ("config.json", "generation_config.json", *TOKENIZER_FILES)


def _dictionary(symbols: Sequence[str]) -> str:
    return "".join(f"{symbol} 1\n" for symbol in symbols)


def _defaults(criterion: str) -> dict:
    """The other settings of a training by fairseq's defaults, as its checkpoints hold them."""
    run = FairseqConfig()
    cfg = OmegaConf.create({name: OmegaConf.structured(getattr(run, name)) for name in _SECTIONS})
    cfg.criterion = OmegaConf.structured(CRITERION_DATACLASS_REGISTRY[criterion]())
    cfg.criterion._name = criterion
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


def _own_defaults(dataclass: type | None) -> dict:
    """The defaults of a model's or a task's settings, without those that are of other sections."""
    found = {item.name: item.default for item in fields(dataclass) if item.default is not MISSING} if dataclass else {}
    found = {name: value.value if isinstance(value, Enum) else value for name, value in found.items()}
    return {name: value for name, value in found.items() if not str(value).startswith(("${", "???"))}


def _checkpoint(imported: Imported, output: Path) -> tuple[Checkpoint, Namespace]:
    """The checkpoint, of stock fairseq's architecture where that computes the same, and its settings."""
    architecture = imported.settings["arch"]
    defaults = _own_defaults(getattr(ARCH_MODEL_REGISTRY[architecture], "__dataclass", None))
    settings = Namespace(**{**defaults, **imported.settings, "_name": architecture})
    complete_architecture(settings)
    of_task = _own_defaults(TASK_DATACLASS_REGISTRY[imported.task["_name"]])
    raw = Checkpoint({
        "args": None,
        "cfg": {
            **_defaults(imported.criterion),
            "model": settings,
            "task": {**of_task, "data": str(output), **imported.task},
        },
        "model": dict(imported.weights),
        "optimizer_history": [{"criterion_name": imported.criterion}],
    })  # fmt: skip
    plan = raw.plan(None)
    return Checkpoint(export_checkpoint(raw, plan)), pruned_settings(raw, plan)


def _flags(imported: Imported, settings: Namespace) -> str:
    """The flags of a training that goes on with the model."""
    task = {name: value for name, value in imported.task.items() if name != "_name"}
    named = {name: value for name, value in imported.settings.items() if name != "arch" and hasattr(settings, name)}
    given = {"task": f"layerdrop_{imported.task['_name']}", "arch": settings.arch, **named, **task}
    words = []
    for name, value in given.items():
        if value not in (None, False):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return " ".join(words)


def import_model(folder, output, force: bool = False) -> list[str]:
    """Write a model of transformers as a fairseq checkpoint, with its dictionaries and the files of its tokenizer.

    Args:
        folder: a local folder of transformers: ``config.json``, weights and a tokenizer. No code of it is run.
        output: the folder to write: ``checkpoint.pt``, ``dict.txt``, the tokenizer's files and ``config.json``.
        force: replace *output* if it is an imported model.

    Returns:
        what was written, in lines.

    Raises:
        UserError: the folder is no such model, fairseq can't be this model, or *output* is to stay.
    """
    folder, output = Path(folder), Path(output)
    if os.path.exists(output):
        if not os.path.isfile(output / CHECKPOINT) or not os.path.isfile(output / "config.json"):
            raise UserError(f"{output} exists and is no imported model; give another name")
        if not force:
            raise UserError(f"{output} exists; give another name, or --force to replace it")
    config = read_config(folder)
    family = family_of(config)
    try:
        imported = family(config, read_weights(folder), folder)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise ImportFolderError(f"{folder}'s config.json isn't in transformers' format: {error}") from error
    checkpoint, settings = _checkpoint(imported, output)
    with write_folder_atomically(output) as staged:
        save_checkpoint(checkpoint.content, staged / CHECKPOINT)
        for name, symbols in imported.vocabularies.items():
            _write(staged / name, _dictionary(symbols.symbols))
        if imported.labels:
            _write(staged / "label" / "dict.txt", _dictionary([label.replace(" ", "_") for label in imported.labels]))
        for name in _KEPT:
            if os.path.isfile(folder / name):
                shutil.copyfile(folder / name, staged / name)
    eps = getattr(settings, EPS_SETTING, None)
    depths = " and ".join(f"{len(layers)} {stack} layers" for stack, layers in checkpoint.structure.items())
    return [
        f"{config['model_type']} of {depths}; architecture {settings.arch}"
        + (f", whose layer norms have its eps, {eps}" if eps else ", of stock fairseq"),
        f"flags for it: {_flags(imported, settings)}",
        *imported.notes,
    ]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
