"""The same batch on another number of devices."""

import copy

from ..plan import UserError


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
        UserError: the batch can't be shared out evenly, or no sample of a language model fits.
    """
    config = copy.deepcopy(config)
    common, dataset, optimization, distributed = (
        config.setdefault(section, {}) for section in ("common", "dataset", "optimization", "distributed_training")
    )
    (accumulated,) = optimization.get("update_freq", [1])
    planned = distributed.get("distributed_world_size", 1)
    micro_batches = accumulated * planned
    if update_freq is None:
        if micro_batches % devices:
            raise UserError(
                f"a batch of {accumulated} accumulations x {planned} devices can't be shared by {devices}; "
                f"take a number of devices that divides {micro_batches}, or say how often to accumulate"
            )
        update_freq = micro_batches // devices
    elif "max_tokens" not in dataset or dataset["max_tokens"] * micro_batches % (devices * update_freq):
        raise UserError(
            f"a batch of {dataset.get('max_tokens')} tokens x {micro_batches} can't be shared by {devices} devices "
            f"that accumulate {update_freq} times; {micro_batches // devices or 1} times would keep the tokens"
        )
    else:
        dataset["max_tokens"] = dataset["max_tokens"] * micro_batches // (devices * update_freq)
        sample = config.get("task", {}).get("tokens_per_sample", 0)
        if sample > dataset["max_tokens"]:
            raise UserError(f"accumulating {update_freq} times leaves no room for a sample of {sample} tokens")
    optimization["update_freq"] = [update_freq]
    distributed["distributed_world_size"] = devices
    common["cpu"] = cpu
    if cpu:
        common["fp16"] = False
        distributed["distributed_backend"] = "gloo"
    return config
