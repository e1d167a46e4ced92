"""What is refused when a training begins, before anything is built; checkpoints that were trained so still load."""

import logging
from dataclasses import fields

from fairseq.models import ARCH_MODEL_NAME_REGISTRY, ARCH_MODEL_REGISTRY

from ..base.errors import UserError
from ..surgery.config import SUBLAYERS_SETTING, architecture_of
from ..surgery.stack_settings import StackSettings, all_stack_settings
from .settings import DropSettings

logger = logging.getLogger(__name__)

_DEFAULTS = {item.name: item.default for item in fields(DropSettings)}
_SCHEDULES = tuple(name for name in _DEFAULTS if name.startswith("layerdrop_"))


def drops_groups(args) -> bool:
    """Whether the settings *args* of a model, ours or fairseq's, ask for any LayerDrop."""
    return any(settings.drops for settings in all_stack_settings(args))


def shares_layers(args) -> bool:
    """Whether layers of the model with the settings *args* share their weights."""
    given = [settings.share_layers for settings in all_stack_settings(args)]
    return any(set(str(sizes).split(",")) - {"1"} for sizes in given if sizes)


def refuse_sharding(ddp_backend: str | None) -> None:
    """Refuse ``fully_sharded`` for a model whose layers aren't all whole, of their own and run in each pass.

    Raises:
        UserError: *ddp_backend* is that.
    """
    if ddp_backend == "fully_sharded":
        raise UserError(
            "a model that drops layers, shares their weights or is pruned doesn't train with --ddp-backend "
            "fully_sharded; give pytorch_ddp or legacy_ddp"
        )


def refuse_dropping_heads(args, stack: str, flag: str) -> None:
    """Refuse *flag*, which drops heads of *stack*, for a model whose attention fairseq computes in another way.

    Raises:
        UserError: it is such a model.
    """
    others = {
        f"--{stack}-xformers-att-config": StackSettings(args, stack).xformers_att_config,
        "--quant-noise-pq": getattr(args, "quant_noise_pq", None),
    }
    for other in (other for other, given in others.items() if given):
        raise UserError(f"{flag} and {other} exclude each other; leave one of them out")


def _check_schedules(args) -> None:
    """Refuse schedules that nothing would read.

    Raises:
        UserError: there are no rates, or none that grow with gamma.
    """
    given = {name: getattr(args, name, None) for name in _SCHEDULES}
    changed = [name for name, value in given.items() if value is not None and str(value) != str(_DEFAULTS[name])]
    if changed and not drops_groups(args):
        raise UserError(
            f"--{changed[0].replace('_', '-')} is for LayerDrop, and no rate is given; leave it out, or give a rate, "
            "for instance --encoder-layerdrop or --decoder-layerdrop"
        )
    if "layerdrop_gamma" in changed and str(given["layerdrop_time_schedule"]) != "progressive":
        raise UserError("--layerdrop-gamma is for --layerdrop-time-schedule progressive; leave it out, or give that")


def _tell_of_ours(args) -> None:
    """Warn where LayerDrop is asked for and fairseq's own is what the architecture trains with.

    It isn't refused: a stock model's training can so go on, and stock LayerDrop be compared with ours.
    """
    name = architecture_of(args)
    flags = [f"--{settings.stack}-layerdrop" for settings in all_stack_settings(args) if settings.layerdrop]
    if not flags or hasattr(ARCH_MODEL_REGISTRY.get(name), "drop_settings"):
        return
    ours = [f"layerdrop_{known}" for known in (name, ARCH_MODEL_NAME_REGISTRY.get(name))]
    ours = [known for known in ours if known in ARCH_MODEL_REGISTRY]
    logger.warning(
        f"{' and '.join(flags)} of --arch {name} is fairseq's own LayerDrop, not this package's, which is the same on "
        f"every process and after a restart; {f'give --arch {ours[0]} for that' if ours else 'there is none for it'}"
    )


def check_training(args, distribution, pruned: bool = False, teaches: bool = False, agrees: bool = False) -> None:
    """Refuse a training whose settings don't go together, and warn of one that isn't what it seems.

    Args:
        args: settings of its model, one of ours or of fairseq's; they may lack what the architecture gives.
        distribution: fairseq's settings of distributed training.
        pruned: whether the model is to be pruned.
        teaches: whether ``--layerdrop-teacher`` runs parts of it.
        agrees: whether two passes of it have one backward pass, as with ``r_drop``.

    Raises:
        UserError: they exclude each other, or nothing would read one of them.
    """
    _check_schedules(args)
    shares = shares_layers(args)
    if pruned or shares or teaches or drops_groups(args) or getattr(args, SUBLAYERS_SETTING, None):
        refuse_sharding(distribution.ddp_backend)
    checkpointed = any(getattr(args, f"{what}_activations", None) for what in ("checkpoint", "offload"))
    by_torch = distribution.distributed_world_size > 1 and distribution.ddp_backend in ("pytorch_ddp", "c10d")
    if (shares or agrees) and checkpointed and by_torch:
        what = "layers that share their weights" if shares else "--layerdrop-teacher r_drop"
        raise UserError(
            f"--checkpoint-activations and {what} train on several processes with legacy_ddp only; give --ddp-backend "
            "legacy_ddp"
        )
    _tell_of_ours(args)
