"""How far the training behind a checkpoint has come."""

from collections.abc import Mapping

from .config import settings_as_dict


def updates_of(checkpoint: Mapping) -> int | None:
    """Number of training updates behind a checkpoint; None where it doesn't tell."""
    return (checkpoint.get("optimizer_history") or [{}])[-1].get("num_updates")


def has_ended(checkpoint: Mapping, limits: Mapping | None = None) -> bool:
    """Whether the training that wrote a checkpoint has come to an end.

    fairseq looks at some of its limits only after an update, and so makes another one when it is started again.

    Args:
        checkpoint: as :func:`~fairseq_layerdrop.surgery.load_checkpoint` returns it.
        limits: ``max_update``, ``max_epoch`` and ``stop_time_hours``, as fairseq-train has them: 0 and None are none.
            By default those that the training itself had.
    """
    if limits is None:
        cfg = checkpoint.get("cfg")
        limits = settings_as_dict(cfg["optimization"] if cfg else checkpoint["args"])
    extra = checkpoint.get("extra_state") or {}
    finished_epochs = ((extra.get("train_iterator") or {}).get("epoch") or 1) - 1
    most_updates, most_epochs, hours = (limits.get(name) for name in ("max_update", "max_epoch", "stop_time_hours"))
    return bool(
        (most_updates and (updates_of(checkpoint) or 0) >= most_updates)
        or (most_epochs and finished_epochs >= most_epochs)
        or (hours and hours > 0 and (extra.get("previous_training_time") or 0) / 3600 > hours)
    )
