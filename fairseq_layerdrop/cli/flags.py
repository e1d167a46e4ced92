"""``fairseq-layerdrop flags CONFIG.yaml [SECTION.FIELD=VALUE …]``."""

import argparse
import re
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

from ..plan import UserError
from .devices import fit_to_devices, usable_devices

HELP = "print a YAML configuration of fairseq-hydra-train as flags of fairseq-train, quoted for a shell"

# Parts of a configuration whose `_name` chooses what they configure, and the flag for it.
_CHOICES = {"task": "task", "model": "arch", **{name: name.replace("_", "-") for name in REGISTRIES}}


def add_arguments(parser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a configuration, for instance of configs/")
    parser.add_argument(
        "overrides",
        metavar="SECTION.FIELD=VALUE",
        nargs="*",
        help="settings to change",
    )
    devices = parser.add_mutually_exclusive_group()
    devices.add_argument(
        "--gpus", type=int, metavar="N",
        help="number of GPUs on all machines together; the batch stays what it is (default: CONFIG's)",
    )  # fmt: skip
    devices.add_argument("--most-gpus", type=int, metavar="N", help="as many as can share the batch, at most N")
    devices.add_argument("--cpus", type=int, metavar="N", help="likewise, number of processes on CPUs")
    parser.add_argument(
        "--update-freq", type=int, metavar="N",
        help="with these: accumulate N micro-batches, with as many tokens in each as leave the batch what it is",
    )  # fmt: skip


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


def _value(text: str):
    """A number, a truth value or a list, where *text* is one in YAML; any other text as it is."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float | list) or text in ("null", "") else text


def read_config(path, overrides: Sequence[str] = ()) -> dict:
    """The sections of a configuration of ``fairseq-hydra-train``, with some settings changed.

    Raises:
        UserError: the file is missing or not YAML, or an override is not ``SECTION.FIELD=VALUE``.
    """
    path = Path(path)
    for override in overrides:
        if not re.fullmatch(r"\w+\.[\w.]+=.*", override, re.DOTALL):
            raise UserError(f"'{override}' is not SECTION.FIELD=VALUE")
    try:
        config = OmegaConf.load(path)
        if not all(isinstance(section, dict | type(None)) for section in OmegaConf.to_container(config).values()):
            raise UserError(f"{path} is not a configuration: its sections must be mappings")
        for override in overrides:
            field, _, value = override.partition("=")
            OmegaConf.update(config, field, _value(value))
        return OmegaConf.to_container(config, resolve=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except AttributeError as error:  # a list, not a mapping
        raise UserError(f"{path} is not a configuration: its sections must be mappings") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def config_flags(config: dict) -> list[str]:
    """The arguments of ``fairseq-train`` for the run that a configuration of ``fairseq-hydra-train`` describes.

    Raises:
        UserError: it is not such a configuration; the message names the field.
    """
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
                raise UserError(f"{section} has no setting '{field}'")
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
    config = read_config(args.config, args.overrides)
    devices = next((given for given in (args.gpus, args.most_gpus, args.cpus) if given is not None), None)
    if devices is not None:
        if devices < 1 or (args.update_freq is not None and args.update_freq < 1):
            raise UserError("numbers of GPUs and CPUs and --update-freq must be at least 1")
        if args.most_gpus is not None and args.update_freq is None:
            devices = usable_devices(config, devices)
        config = fit_to_devices(config, devices, args.cpus is not None, args.update_freq)
    elif args.update_freq is not None:
        raise UserError("--update-freq wants --gpus, --most-gpus or --cpus")
    print(shlex.join(config_flags(config)))
