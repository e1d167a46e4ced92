"""``fairseq-layerdrop flags CONFIG.yaml|CHECKPOINT.pt [SECTION.FIELD=VALUE …]``."""

import argparse
import copy
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

from ..base.errors import UserError
from ..plan import parse
from ..running.loading import be_quiet
from ..surgery.checkpoint import load_checkpoint
from .checkpoint_flags import CHOICES, begin_with, checkpoint_config, is_checkpoint, training_flags
from .devices import fit_to_devices, usable_devices


def add_arguments(parser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", help="a configuration, for instance of configs/, or a checkpoint (.pt)"
    )
    parser.add_argument(
        "overrides",
        metavar="SECTION.FIELD=VALUE",
        nargs="*",
        help="settings to change",
    )
    parser.add_argument(
        "--prune-layers", metavar="SPEC",
        help="train a pruned model, for instance decoder=keep:3@every_other; where CONFIG is a checkpoint, the "
        "training begins with it",
    )  # fmt: skip
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
    if section not in CHOICES:
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


def _override(override: str) -> tuple[str, object]:
    """``SECTION.FIELD`` and the value of an override.

    Raises:
        UserError: it is not ``SECTION.FIELD=VALUE``.
    """
    if not re.fullmatch(r"\w+\.[\w.]+=.*", override, re.DOTALL):
        raise UserError(f"'{override}' is not SECTION.FIELD=VALUE")
    field, _, value = override.partition("=")
    return field, _value(value)


def read_config(path, overrides: Sequence[str] = ()) -> dict:
    """The sections of a configuration of ``fairseq-hydra-train``, with some settings changed.

    Raises:
        UserError: the file is missing or not YAML, or an override is not ``SECTION.FIELD=VALUE``.
    """
    path, changes = Path(path), [_override(override) for override in overrides]
    try:
        config = OmegaConf.load(path)
        if not all(isinstance(section, dict | type(None)) for section in OmegaConf.to_container(config).values()):
            raise UserError(f"{path} is not a configuration: its sections must be mappings")
        for field, value in changes:
            OmegaConf.update(config, field, value)
        return OmegaConf.to_container(config, resolve=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except AttributeError as error:  # a list, not a mapping
        raise UserError(f"{path} is not a configuration: its sections must be mappings") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is neither a configuration nor a checkpoint") from error
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
        if section in CHOICES:
            flags += [f"--{CHOICES[section]}", name]
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


def _fit(config: dict, args) -> dict:
    """A run's configuration for the devices that are given."""
    devices = next((given for given in (args.gpus, args.most_gpus, args.cpus) if given is not None), None)
    if devices is None:
        if args.update_freq is not None:
            raise UserError("--update-freq wants --gpus, --most-gpus or --cpus")
        return config
    if devices < 1 or (args.update_freq is not None and args.update_freq < 1):
        raise UserError("numbers of GPUs and CPUs and --update-freq must be at least 1")
    if args.most_gpus is not None and args.update_freq is None:
        devices = usable_devices(config, devices)
    return fit_to_devices(config, devices, args.cpus is not None, args.update_freq)


def _of_checkpoint(args) -> list[str]:
    """The arguments for the training of a checkpoint, or for one that begins with it.

    Raises:
        UserError: the checkpoint or what is asked for is wrong.
    """
    be_quiet()
    path, checkpoint = Path(args.config), load_checkpoint(args.config)
    before = checkpoint_config(checkpoint)
    after = copy.deepcopy(before)
    if args.prune_layers is not None:
        after = begin_with(before, checkpoint, path, args.prune_layers)
    for field, value in map(_override, args.overrides):
        section, _, name = field.partition(".")
        if section not in after:
            raise UserError(f"unknown section '{section}'; the sections are {', '.join(after)}")
        after[section][name] = value
    given = {section: {k: v for k, v in part.items() if v is not None} for section, part in after.items()}
    for section, settings in _fit(given, args).items():
        after[section].update(settings)
    save_dir = after["checkpoint"].get("save_dir")
    if args.prune_layers is not None and save_dir and os.path.realpath(save_dir) == os.path.realpath(path.parent):
        raise UserError(f"{save_dir} has the whole model; give the pruned one another folder, checkpoint.save_dir=DIR")
    changed = {
        section: {name: value for name, value in settings.items() if value != before[section].get(name)}
        for section, settings in after.items()
    }
    flags, left = training_flags(after, changed)
    if left:
        told = ", ".join(f"{name}={value}" for name, value in left.items())
        print(f"no flags of fairseq-train make these settings: {told}", file=sys.stderr)
    return flags


def run(args) -> None:
    if is_checkpoint(args.config):
        print(shlex.join(_of_checkpoint(args)))
        return
    config = read_config(args.config, args.overrides)
    if args.prune_layers is not None:
        parse(args.prune_layers)
        config.setdefault("task", {})["prune_layers"] = args.prune_layers
    print(shlex.join(config_flags(_fit(config, args))))
