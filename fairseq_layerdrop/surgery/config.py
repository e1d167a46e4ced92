"""Plan x model configuration -> smaller configuration, for each form in which fairseq keeps one."""

import copy
from argparse import Namespace

from ..plan import STACKS, Plan, UserError


class ConfigError(UserError):
    """A model configuration that can't be pruned."""


def model_depths(cfg) -> dict[str, int]:
    """Depth of each stack that a model configuration tells of.

    Args:
        cfg: a model's configuration: a flat :class:`argparse.Namespace`, ``DictConfig`` or dataclass, with
            ``encoder_layers`` or ``decoder_layers`` or both.

    Raises:
        ConfigError: it names no depth, or stock fairseq's ``--encoder-layers-to-keep`` or ``--decoder-layers-to-keep``
            prunes the model already.
    """
    depths = {}
    for stack in STACKS:
        if getattr(cfg, f"{stack}_layers_to_keep", None):
            raise ConfigError(f"--{stack}-layers-to-keep and --prune-layers exclude each other; keep the latter")
        depth = getattr(cfg, f"{stack}_layers", None)
        if depth is not None:
            depths[stack] = int(depth)
    if not depths:
        raise ConfigError("--prune-layers needs a Transformer with encoder_layers or decoder_layers in its settings")
    return depths


def set_depths(cfg, plan: Plan) -> None:
    """Write the depths after *plan* into *cfg*, in place."""
    for stack, depth in plan.kept_depths.items():
        setattr(cfg, f"{stack}_layers", depth)


def copy_config(cfg):
    """A copy of *cfg* that can be changed alone; interpolations in it still resolve."""
    return copy.copy(cfg) if isinstance(cfg, Namespace) else copy.deepcopy(cfg)


def prune_config(cfg, plan: Plan):
    """A copy of *cfg* that describes the pruned model; *cfg* isn't changed.

    Args:
        cfg: see :func:`model_depths`.
        plan: a plan for the depths of *cfg*.
    """
    pruned = copy_config(cfg)
    set_depths(pruned, plan)
    return pruned
