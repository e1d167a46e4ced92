"""The same batch on another number of devices."""

import copy

from ..base.errors import UserError


def _batch(config: dict) -> tuple[int, int]:
    """How often a run accumulates, and on how many devices."""
    accumulated = config.get("optimization", {}).get("update_freq", [1])
    if isinstance(accumulated, list) and len(accumulated) == 1:
        (accumulated,) = accumulated
    devices = config.get("distributed_training", {}).get("distributed_world_size", 1)
    if not all(type(number) is int and number > 0 for number in (accumulated, devices)):
        raise UserError(
            "optimization.update_freq must be one number above 0, as in [16], and distributed_world_size one too, "
            f"not {accumulated} and {devices}"
        )
    return accumulated, devices


def usable_devices(config: dict, most: int) -> int:
    """The largest number of devices, at most *most*, that can share a run's batch.

    Raises:
        UserError: the configuration has no single number of accumulations.
    """
    accumulated, planned = _batch(config)
    return max(number for number in range(1, most + 1) if accumulated * planned % number == 0)


# Settings of a task that say how long its samples may be.
_LENGTHS = ("tokens_per_sample", "max_source_positions", "max_target_positions")


def fit_to_devices(config: dict, devices: int, cpu: bool = False, update_freq: int | None = None) -> dict:
    """A run's configuration for a number of GPUs, or of processes on CPUs, with the batch that it had.

    A batch is ``dataset.max_tokens`` x ``optimization.update_freq`` x ``distributed_training.distributed_world_size``
    tokens. Fewer devices accumulate more. Where *update_freq* is given, the tokens at a time are made to fit; it is the
    knob for a GPU with less memory. On CPUs, ``common.fp16`` is turned off and processes talk by gloo.

    Args:
        config: sections of fairseq-hydra-train's schema.
        devices: on all machines together, a process each.
        cpu: whether they are CPUs.
        update_freq: micro-batches to accumulate on each device.

    Raises:
        UserError: the batch can't be shared out evenly, or a sample of the length that the task allows wouldn't fit.
    """
    config = copy.deepcopy(config)
    common, dataset, optimization, distributed = (
        config.setdefault(section, {}) for section in ("common", "dataset", "optimization", "distributed_training")
    )
    accumulated, planned = _batch(config)
    micro_batches = accumulated * planned
    if update_freq is None:
        if micro_batches % devices:
            raise UserError(
                f"a batch of {accumulated} accumulations x {planned} devices can't be shared by {devices}; "
                f"take a number of devices that divides {micro_batches}, or say how often to accumulate "
                f"(--update-freq, UPDATE_FREQ), which changes the tokens at a time"
            )
        update_freq = micro_batches // devices
    elif "max_tokens" not in dataset or dataset["max_tokens"] * micro_batches % (devices * update_freq):
        raise UserError(
            f"a batch of {dataset.get('max_tokens')} tokens x {micro_batches} can't be shared by {devices} devices "
            f"that accumulate {update_freq} times; {micro_batches // devices or 1} times would keep the tokens"
        )
    else:
        dataset["max_tokens"] = dataset["max_tokens"] * micro_batches // (devices * update_freq)
        longest = max(config.get("task", {}).get(name) or 0 for name in _LENGTHS)
        if longest > dataset["max_tokens"]:
            raise UserError(
                f"accumulating {update_freq} times leaves {dataset['max_tokens']} tokens, too few for a sample of "
                f"{longest}, and longer samples than fit are left out of the training"
            )
    optimization["update_freq"] = [update_freq]
    distributed["distributed_world_size"] = devices
    common["cpu"] = cpu
    if cpu:
        common["fp16"] = False
        distributed["distributed_backend"] = "gloo"
    return config
