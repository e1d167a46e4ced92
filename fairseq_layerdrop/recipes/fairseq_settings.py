"""What fairseq says of its settings.

``python -m fairseq_layerdrop.recipes.fairseq_settings`` writes those that are noted in ``settings.json``.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version

from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY

from .. import register  # noqa: F401 - configurations name our models and tasks
from ..base.errors import UserError
from ..base.files import write_atomically
from .settings import SNAPSHOT

# Of the parts that can be chosen, what our configurations choose.
_NOTED = {
    "criterion": (
        "adaptive_loss", "cross_entropy", "label_smoothed_cross_entropy", "masked_lm", "sentence_prediction",
    ),
    "lr_scheduler": ("cosine", "inverse_sqrt", "polynomial_decay"),
    "optimizer": ("adam", "nag"),
}  # fmt: skip
_OURS = "layerdrop_"


def settings_of(section: str, name: str | None) -> dict[str, bool]:
    """See :func:`.settings.known_settings`.

    Raises:
        UserError: there is no such part, or it can't be chosen.
    """
    if section not in ("model", "task", *REGISTRIES):
        part = FairseqConfig.__dataclass_fields__.get(section)
        if part is None:
            sections = [name for name in FairseqConfig.__dataclass_fields__ if not name.startswith("_")]
            raise UserError(f"unknown section '{section}'; the sections are {', '.join(sections)}")
        dataclass = part.default
    elif section == "model":
        model = ARCH_MODEL_REGISTRY.get(name)
        if model is None:
            raise UserError(f"model: unknown architecture '{name}'")
        dataclass = getattr(model, "__dataclass", None)
        if dataclass is None:
            parser = argparse.ArgumentParser()
            model.add_args(parser)
            return {action.dest: bool(action.default) for action in parser._actions}
    else:
        known = TASK_DATACLASS_REGISTRY if section == "task" else REGISTRIES[section]["dataclass_registry"]
        if name not in known:
            raise UserError(f"{section}: unknown _name '{name}'; there are {', '.join(sorted(known))}")
        dataclass = known[name]
    return {field.name: bool(field.default) for field in fields(dataclass)} if dataclass else {}


def snapshot() -> dict[str, Mapping | str]:
    """What is noted: by section and name the settings; for an architecture the name of its model."""
    plain = [
        name for name in FairseqConfig.__dataclass_fields__
        if not name.startswith("_") and name not in ("model", "task", *REGISTRIES)
    ]  # fmt: skip
    noted: dict = {section: {"": settings_of(section, None)} for section in plain}
    noted.update({section: {name: settings_of(section, name) for name in names} for section, names in _NOTED.items()})
    tasks = [name for name in TASK_DATACLASS_REGISTRY if name.startswith(_OURS)]
    noted["task"] = {name: settings_of("task", name) for name in sorted(tasks)}
    models = {
        name: ARCH_MODEL_NAME_REGISTRY[name] for name in sorted(ARCH_MODEL_NAME_REGISTRY) if name.startswith(_OURS)
    }
    noted["model"] = {name: settings_of("model", name) if name == model else model for name, model in models.items()}
    return {"fairseq-fixed": version("fairseq-fixed"), **noted}


def main() -> None:
    with write_atomically(SNAPSHOT) as file:
        file.write(f"{json.dumps(snapshot(), indent=1, sort_keys=True)}\n".encode())


if __name__ == "__main__":
    main()
