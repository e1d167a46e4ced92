"""What is refused when a training begins, before anything is built; checkpoints that were trained so still load."""

from ..plan import STACKS, UserError


def shares_layers(args) -> bool:
    """Whether layers of the model with the settings *args* share their weights."""
    given = [getattr(args, f"{stack}_share_layers", None) for stack in STACKS]
    return any(set(str(sizes).split(",")) - {"1"} for sizes in given if sizes)


def check_training(args, distribution) -> None:
    """Refuse a training whose settings don't go together.

    Args:
        args: settings of its model, one of ours or of fairseq's; they may lack what the architecture gives.
        distribution: fairseq's settings of distributed training.

    Raises:
        UserError: they exclude each other.
    """
    checkpointed = any(getattr(args, f"{what}_activations", None) for what in ("checkpoint", "offload"))
    by_torch = distribution.distributed_world_size > 1 and distribution.ddp_backend in ("pytorch_ddp", "c10d")
    if shares_layers(args) and checkpointed and by_torch:
        raise UserError(
            "--checkpoint-activations and layers that share their weights train on several processes with legacy_ddp "
            "only; give --ddp-backend legacy_ddp"
        )
