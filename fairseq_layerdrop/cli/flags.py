"""``fairseq-layerdrop flags CONFIG.yaml|CHECKPOINT.pt [SECTION.FIELD=VALUE …]``."""

import copy
import os
import shlex
import sys
from pathlib import Path

from ..base.errors import UserError
from ..plan import parse


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
    devices.add_argument("--cpus", type=int, metavar="N", help="number of processes on CPUs, in place of GPUs")
    parser.add_argument(
        "--update-freq", type=int, metavar="N",
        help="with these: accumulate N micro-batches, with as many tokens in each as leave the batch what it is",
    )  # fmt: skip


def _fit(config: dict, args) -> dict:
    """A run's configuration for the devices that are given."""
    from ..recipes.devices import fit_to_devices, usable_devices

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
    from .. import register  # noqa: F401 - checkpoints name our models and tasks
    from ..recipes.checkpoint_flags import begin_with, checkpoint_config, training_flags
    from ..recipes.config import read_override
    from ..running.loading import be_quiet
    from ..surgery.checkpoint import Checkpoint

    be_quiet()
    path, checkpoint = Path(args.config), Checkpoint.load(args.config)
    before = checkpoint_config(checkpoint)
    after = copy.deepcopy(before)
    if args.prune_layers is not None:
        after = begin_with(before, checkpoint, path, args.prune_layers)
    begins = {"task.prune_layers", "checkpoint.finetune_from_model"} if args.prune_layers is not None else set()
    for field, value in map(read_override, args.overrides):
        if field in begins:
            raise UserError(f"--prune-layers sets {field}; leave one of them out")
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
        settings = ", ".join(f"{name}={value}" for name, value in left.items())
        print(f"no flags of fairseq-train make these settings: {settings}", file=sys.stderr)
    return flags


def _is_checkpoint(path) -> bool:
    """Whether a file begins as torch's do, in either of its formats."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return start == b"PK\x03\x04" or start[:1] == b"\x80"


def run(args) -> None:
    from ..recipes.config import config_flags, read_config

    if _is_checkpoint(args.config):
        print(shlex.join(_of_checkpoint(args)))
        return
    config = read_config(args.config, args.overrides)
    if args.prune_layers is not None:
        parse(args.prune_layers)
        config.setdefault("task", {})["prune_layers"] = args.prune_layers
    print(shlex.join(config_flags(_fit(config, args))))
