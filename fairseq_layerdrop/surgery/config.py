"""Plan x model configuration -> smaller configuration, for each form in which fairseq keeps one."""

import copy
from argparse import Namespace
from collections.abc import Mapping

from fairseq.models import ARCH_CONFIG_REGISTRY, MODEL_DATACLASS_REGISTRY
from omegaconf import OmegaConf, open_dict

from ..plan import (
    STACKS,
    Plan,
    PlanError,
    PruneSpec,
    Structure,
    UserError,
    drop_spec,
    parse,
    transformer_structure,
)

# The setting in which our models note the sub-layers that they lack.
SUBLAYERS_SETTING = "pruned_sublayers"


class ConfigError(UserError):
    """A model configuration that can't be pruned."""


def settings_as_dict(settings) -> dict:
    """A checkpoint's settings of a model or a task, which are a mapping or a namespace, as a dictionary."""
    return dict(settings) if isinstance(settings, Mapping) else vars(settings)


def architecture_of(cfg) -> str | None:
    """Name of the architecture that a model's configuration is for."""
    return getattr(cfg, "_name", None) or getattr(cfg, "arch", None)


def complete_architecture(cfg) -> None:
    """Fill in what the architecture leaves to defaults, in place, as fairseq does when it builds the model."""
    name = architecture_of(cfg)
    if name in ARCH_CONFIG_REGISTRY and name not in MODEL_DATACLASS_REGISTRY:
        if OmegaConf.is_config(cfg):
            with open_dict(cfg):
                ARCH_CONFIG_REGISTRY[name](cfg)
        else:
            ARCH_CONFIG_REGISTRY[name](cfg)


def whole_structure(cfg) -> Structure:
    """Structure of the model that *cfg* describes, if no sub-layer were missing.

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
    return transformer_structure(depths, encoder_attn=not getattr(cfg, "no_cross_attention", False))


def model_structure(cfg) -> Structure:
    """Structure of the model that *cfg* describes; see :func:`whole_structure`.

    Raises:
        ConfigError: also where the setting of missing sub-layers is not of the kind ``decoder=drop:3.ffn``.
    """
    whole = whole_structure(cfg)
    text = getattr(cfg, SUBLAYERS_SETTING, None)
    if text is None:
        return whole
    try:
        spec = parse(text)
        plan = spec.resolve(whole)
    except PlanError as error:
        raise ConfigError(f"{SUBLAYERS_SETTING}: {error}") from error
    if not isinstance(spec, PruneSpec) or any(len(part.layers) != part.depth for part in plan.stacks.values()):
        raise ConfigError(f"{SUBLAYERS_SETTING} drops only sub-layers, as in decoder=drop:3.ffn, not '{text}'")
    return plan.pruned


def set_structure(cfg, structure: Structure) -> None:
    """Write the depths of *structure* into *cfg*, in place, and what its layers lack where *cfg* has a place for it."""
    for stack, layers in structure.items():
        setattr(cfg, f"{stack}_layers", len(layers))
    if SUBLAYERS_SETTING in cfg:
        spec = drop_spec(whole_structure(cfg), structure)
        setattr(cfg, SUBLAYERS_SETTING, None if spec is None else str(spec))


def copy_config(cfg):
    """A copy of *cfg* that can be changed alone; interpolations in it still resolve."""
    return copy.copy(cfg) if isinstance(cfg, Namespace) else copy.deepcopy(cfg)


def prune_config(cfg, plan: Plan):
    """A copy of *cfg* that describes the pruned model; *cfg* isn't changed.

    Args:
        cfg: see :func:`whole_structure`.
        plan: a plan for the structure of *cfg*.
    """
    pruned = copy_config(cfg)
    set_structure(pruned, plan.pruned)
    return pruned
