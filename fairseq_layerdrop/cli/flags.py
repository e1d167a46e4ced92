"""``fairseq-layerdrop flags CONFIG.yaml``."""

import argparse
import shlex
from dataclasses import fields
from pathlib import Path

import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

from ..plan import UserError

HELP = "print a YAML configuration of fairseq-hydra-train as flags of fairseq-train, quoted for a shell"

# Parts of a configuration whose `_name` chooses what they configure, and the flag for it.
_CHOICES = {"task": "task", "model": "arch", **{name: name.replace("_", "-") for name in REGISTRIES}}


def add_arguments(parser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a configuration, for instance of configs/")


def _fields_of(section: str, name: str | None) -> dict[str, object]:
    """The settings that a part of a configuration has, with their defaults.

    Raises:
        UserError: there is no such part, or it can't be chosen.
    """
    if section not in _CHOICES:
        plain = FairseqConfig.__dataclass_fields__.get(section)
        if plain is None:
            raise UserError(f"unknown section '{section}'; the sections are {', '.join(_sections())}")
        dataclass = plain.default
    elif section == "model":
        model = ARCH_MODEL_REGISTRY.get(name)
        if model is None:
            raise UserError(f"model: unknown architecture '{name}'")
        dataclass = getattr(model, "__dataclass", None)
        if dataclass is None:
            parser = argparse.ArgumentParser()
            model.add_args(parser)
            return {action.dest: action.default for action in parser._actions}
    else:
        known = TASK_DATACLASS_REGISTRY if section == "task" else REGISTRIES[section]["dataclass_registry"]
        if name not in known:
            raise UserError(f"{section}: unknown _name '{name}'; there are {', '.join(sorted(known))}")
        dataclass = known[name]
    return {field.name: field.default for field in fields(dataclass)} if dataclass else {}


def _sections() -> list[str]:
    return [name for name in FairseqConfig.__dataclass_fields__ if not name.startswith("_")]


def config_flags(path) -> list[str]:
    """The arguments of ``fairseq-train`` for the run that a configuration of ``fairseq-hydra-train`` describes.

    Raises:
        UserError: the file is missing or not such a configuration; the message names the field.
    """
    path = Path(path)
    try:
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    positional, flags = [], []
    for section, settings in config.items():
        if section == "hydra":
            continue
        settings = dict(settings or {})
        name = settings.pop("_name", None)
        known = _fields_of(section, name)
        if section in _CHOICES:
            flags += [f"--{_CHOICES[section]}", name]
        for field, value in settings.items():
            if field not in known:
                raise UserError(f"{path}: {section} has no setting '{field}'")
            if field == "data":
                positional.append(str(value))
            elif isinstance(value, bool):
                if value != bool(known[field]):  # fairseq's switches turn a default round
                    flags.append(f"--{field.replace('_', '-')}")
            elif value is not None:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                flags += [f"--{field.replace('_', '-')}", text]
    return [*positional, *flags]


def run(args) -> None:
    print(shlex.join(config_flags(args.config)))
