"""The flags of ``fairseq-train`` for the training that a checkpoint is of, or for one that begins with it, pruned."""

import argparse
import copy
import warnings
from argparse import Namespace
from collections.abc import Mapping
from enum import Enum
from itertools import chain
from pathlib import Path

from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_REGISTRY

from ..base.configs import config_as_dict
from ..base.errors import UserError
from ..plan import parse
from ..running.loading import import_user_dir
from ..surgery.checkpoint import Checkpoint
from ..surgery.config import SUBLAYERS_SETTING, complete_architecture
from ..surgery.export import pruned_settings
from ..tasks import LAST, PrunableTask, prunable_task

# Parts of a configuration whose `_name` chooses what they configure, and the flag for it.
CHOICES = {"task": "task", "model": "arch", **{name: name.replace("_", "-") for name in REGISTRIES}}
# Settings that fairseq makes for the machine that it runs on.
_OF_MACHINE = {
    "device_id", "distributed_init_method", "distributed_no_spawn", "distributed_num_procs", "distributed_port",
    "distributed_rank", "nprocs_per_node",
}  # fmt: skip
# Sections of other commands.
_OTHERS = {"common_eval", "eval_lm", "generation", "interactive"}
# Settings that fairseq fills in from others, where they aren't given.
_FOLLOWING = {"batch_size_valid": "batch_size", "max_tokens_valid": "max_tokens"}
_OURS = Path(__file__).resolve().parents[1]  # what --user-dir names


def _plain(value):
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _sections(cfg: Mapping) -> dict[str, dict]:
    """The settings of a training, by section of its configuration.

    Where a section is a namespace it has the flags of the whole command line; those of other sections are left to them.
    """
    parts = {name: part for name, part in cfg.items() if isinstance(part, Mapping | Namespace) and name not in _OTHERS}
    elsewhere = {field for part in parts.values() if isinstance(part, Mapping) for field in part} - {"_name"}
    elsewhere |= {flag.replace("-", "_") for flag in CHOICES.values()}
    return {
        name: {
            field: _plain(value)
            for field, value in (part if isinstance(part, Mapping) else vars(part)).items()
            if field not in _OF_MACHINE and (isinstance(part, Mapping) or field not in elsewhere)
        }
        for name, part in parts.items()
    }


def plugin_of(config: Mapping) -> str | None:
    """What to give as ``--user-dir`` for these settings; it is imported.

    Raises:
        UserError: it can't be, or isn't where the architecture or the task is.
    """
    given = config["common"].get("user_dir")
    own = given is None or Path(given).name == _OURS.name
    if not own:
        import_user_dir(given)
    classes = []
    for what, section, registry in (("architecture", "model", ARCH_MODEL_REGISTRY), ("task", "task", TASK_REGISTRY)):
        name = config[section]["_name"]
        if name not in registry:
            raise UserError(f"unknown {what} '{name}'; give common.user_dir=DIR, the folder of the plugin that has it")
        classes.append(registry[name])
    if own:
        given = str(_OURS) if any(cls.__module__.startswith(f"{_OURS.name}.") for cls in classes) else None
    return given


def _parser(arguments: list[str]) -> tuple[argparse.ArgumentParser, Namespace]:
    """fairseq's parser for a training, with the flags of the task and the model in *arguments*, and what it reads."""
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, arguments)
    complete_architecture(args)  # as models do when they are built
    return parser, args


def _parsed(arguments: list[str]) -> tuple[dict[str, argparse.Action], dict[str, dict]]:
    """The flags of fairseq-train that there are with these arguments, by name of setting, and all settings."""
    parser, args = _parser(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hydra's, on how fairseq calls it
        cfg = convert_namespace_to_omegaconf(args)
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    return actions, _sections(config_as_dict(cfg, enum_to_str=True))


def _cfg_of(args: Namespace) -> Mapping:
    """The configuration that fairseq makes of the arguments of a command line, which is what old checkpoints hold.

    Settings that are younger than the checkpoint have fairseq's defaults; what fairseq renamed has its new name.
    """
    given = {name: getattr(args, name, None) for name in ("task", "arch", *REGISTRIES)}
    given["task"] = given["task"] or "translation"
    plugin_of({"common": vars(args), "model": {"_name": given["arch"]}, "task": {"_name": given["task"]}})
    flags = chain.from_iterable((f"--{name.replace('_', '-')}", value) for name, value in given.items() if value)
    parser, defaults = _parser(["", *flags])
    args = copy.copy(args)
    for name, value in list(vars(args).items()):
        action = parser._option_string_actions.get(f"--{name.replace('_', '-')}")
        if action is not None:
            vars(args).setdefault(action.dest, value)
    complete_architecture(args)
    args = Namespace(**{**vars(defaults), **vars(args)})
    updates = {"optimizer_name": None, "lr_scheduler_state": None, "num_updates": 0}
    state = {"args": args, "optimizer_history": [updates], "extra_state": {"train_iterator": {"epoch": 1}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hydra's, on how fairseq calls it
        return config_as_dict(checkpoint_utils._upgrade_state_dict(state)["cfg"], enum_to_str=True)


def checkpoint_config(checkpoint: Checkpoint) -> dict[str, dict]:
    """The settings of the training that a checkpoint is of, by section of fairseq's configuration.

    Left out are those that fairseq makes for the machine, as ranks and addresses, and those of other commands.
    """
    cfg = checkpoint.content.get("cfg") or _cfg_of(checkpoint.content["args"])
    config = {"common": {}, "checkpoint": {}, "dataset": {}, **_sections(cfg)}
    dataset = config["dataset"]
    for name, other in _FOLLOWING.items():
        if dataset.get(name) in (None, dataset.get(other)):
            dataset.pop(name, None)
    return config


def begin_with(config: dict, checkpoint: Checkpoint, path: Path, spec: str) -> dict:
    """The settings of a training that begins with a checkpoint, pruned.

    Args:
        config: those of the training that it is of.
        checkpoint: the checkpoint.
        path: its file.
        spec: what to keep, as ``--prune-layers`` says.

    Raises:
        UserError: *spec* doesn't fit the model, or the model's task can't be pruned.
    """
    config = copy.deepcopy(config)
    plan = checkpoint.plan(parse(spec))
    task, model, settings = config["task"], config["model"], config["checkpoint"]
    if not issubclass(TASK_REGISTRY[task["_name"]], PrunableTask):
        task["_name"] = prunable_task(checkpoint.task)
    task["prune_layers"] = spec
    if plan.drops_sublayers and SUBLAYERS_SETTING not in model:
        model["_name"] = pruned_settings(checkpoint, plan).arch
    settings.update({name: False for name in settings if name.startswith("reset_")})
    settings.update(
        {name: value for name, value in (("continue_once", None), ("restore_file", LAST)) if name in settings}
    )
    settings["finetune_from_model"] = str(path)
    return config


def _option(action: argparse.Action, value) -> list[str]:
    """The arguments with which a parser's *action* stores *value*; none where there are no such."""
    flag = action.option_strings[0]
    if action.nargs == 0:
        return [flag] if value == action.const else []
    if value is None:
        return []
    if isinstance(value, list):
        numbers = value and all(isinstance(item, int | float) for item in value)
        value = ",".join(map(str, value)) if numbers else repr(value)
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _is_made(found: Mapping[str, Mapping], field: str, value) -> bool:
    """Whether settings that were *found* have this value, as text where fairseq's parser leaves it one.

    Sections of what was chosen otherwise, as an optimizer, refer to each other's; what is off needs no place.
    """
    values = [part[field] for part in found.values() if field in part]
    return any(str(known) == str(value) for known in values) or (not values and value in (None, False))


def training_flags(config: Mapping, changed: Mapping) -> tuple[list[str], dict]:
    """The arguments with which ``fairseq-train`` has these settings: those that differ from what it has by itself.

    Flags are added until fairseq's own parser makes the settings of them, since some defaults depend on others.

    Args:
        config: the settings, by section.
        changed: those, by section, that take precedence over others of the same flag.

    Returns:
        the arguments; and, by name, settings that no flag makes.

    Raises:
        UserError: there is no such architecture, task or setting.
    """
    plugin, data = plugin_of(config), config["task"].get("data")
    if data is None:
        raise UserError("the checkpoint doesn't tell of its data; give task.data=DIR")
    arguments = [str(data), *(("--user-dir", plugin) if plugin else ())]
    for section, flag in CHOICES.items():
        if config.get(section, {}).get("_name") is not None:
            arguments += [f"--{flag}", config[section]["_name"]]
    first = {field: value for settings in changed.values() for field, value in settings.items()}
    flags: dict[str, list[str]] = {}
    while True:
        actions, found = _parsed([*arguments, *chain.from_iterable(flags.values())])
        for section, settings in changed.items():
            for field in settings:
                if field not in found.get(section, {}) and field not in actions:
                    raise UserError(f"{section} has no setting '{field}'")
        wrong = {
            field: first.get(field, value)
            for section, settings in config.items()
            for field, value in settings.items()
            if field not in ("_name", "user_dir") and (field in actions or field in found.get(section, {}))
            and not _is_made(found, field, first.get(field, value))
        }  # fmt: skip
        more = {field: _option(actions[field], value) for field, value in wrong.items() if field in actions}
        more = {field: option for field, option in more.items() if option and field not in flags}
        if not more:
            return [*arguments, *chain.from_iterable(flags.values())], {
                field: value for field, value in wrong.items() if field not in first
            }
        flags.update(more)
