"""Configurations of ``fairseq-hydra-train``, as flags of ``fairseq-train``."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from ..base.configs import config_as_dict
from ..base.errors import UserError
from .settings import FLAGS, known_settings


def _value(text: str):
    """A number, a truth value or a list, where *text* is one in YAML; any other text as it is."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float | list) or text in ("null", "") else text


def read_override(override: str) -> tuple[str, object]:
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
    path, changes = Path(path), [read_override(override) for override in overrides]
    try:
        config = OmegaConf.load(path)
        if not all(isinstance(section, dict | type(None)) for section in config_as_dict(config).values()):
            raise UserError(f"{path} is not a configuration: its sections must be mappings")
        for field, value in changes:
            OmegaConf.update(config, field, value)
        return config_as_dict(config, resolve=True)
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
        known = known_settings(section, name)
        if name is not None:
            flags += [f"--{FLAGS.get(section, section.replace('_', '-'))}", name]
        for field, value in settings.items():
            if field not in known:
                raise UserError(f"{section} has no setting '{field}'")
            if field == "data":
                positional.append(str(value))
            elif isinstance(value, bool):
                if value != known[field]:  # fairseq's switches turn a default round
                    flags.append(f"--{field.replace('_', '-')}")
            elif value is not None:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                flags += [f"--{field.replace('_', '-')}", text]
    return [*positional, *flags]
