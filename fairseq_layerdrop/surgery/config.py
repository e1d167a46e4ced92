"""Plan x model configuration -> smaller configuration, for each form in which fairseq keeps one."""

import copy
from argparse import Namespace
from collections.abc import Mapping

from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY
from omegaconf import OmegaConf, open_dict

from ..base.errors import UserError
from ..plan import (
    ModelFacts,
    Plan,
    PlanError,
    PruneSpec,
    Structure,
    chunks_left,
    chunks_of,
    drop_spec,
    parse,
    transformer_structure,
)
from .stack_settings import DROPS, StackSettings, all_stack_settings

# The setting in which our models note the sub-layers that they lack.
SUBLAYERS_SETTING = "pruned_sublayers"
# The setting in which our models note the eps of their layer norms, where it isn't fairseq's own.
EPS_SETTING = "layer_norm_eps"
FAIRSEQ_EPS = 1e-5
# The setting of those that have a bias of each symbol's logit.
OUTPUT_BIAS_SETTING = "decoder_output_bias"
# What stock models can't be told.
OWN_SETTINGS = (SUBLAYERS_SETTING, EPS_SETTING, OUTPUT_BIAS_SETTING)
# Where the importances that a checkpoint's model has learned are noted when it is loaded.
IMPORTANCE_SETTING = "layer_importance"
# Settings of a stack's layers that fairseq's recurrent and convolutional models have, and no Transformer.
_OTHER_SETTINGS = ("hidden_size", "conv_type")


class ConfigError(UserError):
    """A model configuration that can't be pruned."""


def not_a_transformer(name: str | None) -> ConfigError:
    """What to tell of a model of this architecture."""
    return ConfigError(f"{name} isn't a Transformer: it has no layers of self-attention and feed-forward to prune")


def settings_as_dict(settings) -> dict:
    """A checkpoint's settings of a model or a task, which are a mapping or a namespace, as a dictionary."""
    return dict(settings) if isinstance(settings, Mapping) else vars(settings)


def architecture_of(cfg) -> str | None:
    """Name of the architecture that a model's configuration is for."""
    return getattr(cfg, "_name", None) or getattr(cfg, "arch", None)


def complete_architecture(cfg) -> None:
    """Fill in what the architecture leaves to defaults, in place, as is done when the model is built."""
    name = architecture_of(cfg)
    if name in ARCH_CONFIG_REGISTRY and name not in MODEL_DATACLASS_REGISTRY:
        if OmegaConf.is_config(cfg):
            with open_dict(cfg):
                ARCH_CONFIG_REGISTRY[name](cfg)
        else:
            ARCH_CONFIG_REGISTRY[name](cfg)
        if hasattr(ARCH_MODEL_REGISTRY[name], "complete_settings"):  # a model of ours
            ARCH_MODEL_REGISTRY[name].complete_settings(cfg)


def whole_structure(cfg) -> Structure:
    """Structure of the model that *cfg* describes, if no sub-layer were missing.

    Args:
        cfg: a model's configuration: a flat :class:`argparse.Namespace`, ``DictConfig`` or dataclass, with
            ``encoder_layers`` or ``decoder_layers`` or both.

    Raises:
        ConfigError: it is of no Transformer, or names no depth, or stock fairseq's ``--encoder-layers-to-keep`` or
            ``--decoder-layers-to-keep`` prunes the model already.
    """
    depths = {}
    for settings in all_stack_settings(cfg):
        if settings.layers_to_keep:
            raise ConfigError(
                f"--{settings.stack}-layers-to-keep and --prune-layers exclude each other; keep the latter"
            )
        if isinstance(settings.layers, str) or settings.has_any(_OTHER_SETTINGS):
            raise not_a_transformer(architecture_of(cfg))
        if settings.layers is not None:
            depths[settings.stack] = int(settings.layers)
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
        plan = spec.resolve(whole, model_facts(cfg))
    except PlanError as error:
        raise ConfigError(f"{SUBLAYERS_SETTING}: {error}") from error
    if not isinstance(spec, PruneSpec) or any(len(part.layers) != part.depth for part in plan.stacks.values()):
        raise ConfigError(f"{SUBLAYERS_SETTING} drops only sub-layers, as in decoder=drop:3.ffn, not '{text}'")
    return plan.pruned


def model_facts(cfg) -> ModelFacts:
    """Head counts of the model that *cfg* describes, and learned importances where its loading noted any."""
    heads = {settings.stack: settings.attention_heads for settings in all_stack_settings(cfg)}
    importance = getattr(cfg, IMPORTANCE_SETTING, None) or {}
    return ModelFacts(
        {stack: number for stack, number in heads.items() if number is not None},
        {stack: tuple(scores) for stack, scores in importance.items()},
    )


def layer_chunks(cfg, structure: Structure) -> dict[str, list[int]]:
    """For each stack of *structure*, that of the model that *cfg* describes, the chunks of layers that share weights.

    Raises:
        UserError: they don't make up the depth.
    """
    return {
        stack: chunks_of(StackSettings(cfg, stack).share_layers, len(layers), stack)
        for stack, layers in structure.items()
    }


def set_plan(cfg, plan: Plan) -> None:
    """Let *cfg*, in place, describe the model that *plan* leaves of the one that it describes.

    Beside the depths, that is what the layers lack, where *cfg* has a place for it, and what our models are told of
    each layer: its drop rates and the neighbours with which it shares weights. Importances are no longer learned,
    and a target depth that is reached goes.
    """
    for stack, part in plan.stacks.items():
        settings = StackSettings(cfg, stack)
        settings.layers = len(part.layers)
        if len(part.layers) == part.depth:
            continue
        for kind in DROPS:
            listed = settings.rates(kind)
            if listed:
                of_layers = listed.split(",")
                setattr(settings, f"{kind}_rates", ",".join(of_layers[layer] for layer in part.layers))
        if settings.share_layers:
            chunks = chunks_of(settings.share_layers, part.depth, stack)
            settings.share_layers = chunks_left(chunks, part.layers)
        if (settings.layerdrop_target_depth or 0) >= len(part.layers):
            settings.layerdrop_target_depth = None
        if settings.layerdrop_learned:
            settings.layerdrop_learned = False
    if SUBLAYERS_SETTING in cfg:
        spec = drop_spec(whole_structure(cfg), plan.pruned)
        setattr(cfg, SUBLAYERS_SETTING, None if spec is None else str(spec))


def norm_eps(cfg) -> float:
    """The eps of the layer norms of the model that *cfg* describes; stock models have fairseq's."""
    return getattr(cfg, EPS_SETTING, None) or FAIRSEQ_EPS


def needs_ours(cfg) -> bool:
    """Whether *cfg* describes a model that no stock one computes."""
    own = any(getattr(cfg, name, None) for name in (SUBLAYERS_SETTING, OUTPUT_BIAS_SETTING))
    return own or norm_eps(cfg) != FAIRSEQ_EPS


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
    set_plan(pruned, plan)
    return pruned
