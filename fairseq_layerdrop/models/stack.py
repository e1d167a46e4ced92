"""Turning a model of fairseq's into one that draws as LayerDrop should."""

import types
from functools import partial

import torch
from torch import nn

from ..base.errors import UserError
from ..modules import LayerDropModuleList, LayerImportance, ScriptedAsFairseq, StepDecoder
from ..plan import Layer, chunks_of
from ..surgery.build import remove_missing_sublayers
from ..surgery.config import EPS_SETTING, OUTPUT_BIAS_SETTING, SUBLAYERS_SETTING, model_structure, norm_eps
from ..surgery.stack_settings import StackSettings, all_stack_settings
from ..surgery.state import stacks_of
from .settings import DropSettings, complete_settings, drop_rates, drop_schedule
from .share import share_layers
from .training import refuse_dropping_heads, refuse_sharding


class LayerDropModel(ScriptedAsFairseq):
    """Mixed into a Transformer of fairseq's, before it among the bases: it is built as our settings describe it.

    Attributes:
        drop_settings: those of our settings that it has.
    """

    drop_settings: type[DropSettings]

    @classmethod
    def complete_settings(cls, args) -> None:
        """Give *args*, in place, what an architecture doesn't, for instance one of the user's that knows fairseq's own
        settings alone."""
        complete_settings(args, cls.drop_settings)

    @classmethod
    def build_model(cls, args, task):
        """Build the model.

        Raises:
            UserError: a setting is wrong, or settings exclude each other.
        """
        cls.complete_settings(args)
        check_settings(args)
        model = super().build_model(args, task)
        make_droppable(model, args, task)
        return model


def run_seed(args) -> int:
    """The run's seed from a model's settings; 1, fairseq's default, where they don't tell it."""
    seed = getattr(args, "seed", None)
    return 1 if seed is None else seed


def make_droppable(model, args, task) -> None:
    """Make *model*, a stock Transformer of fairseq's, the one that our settings in *args* describe; in place.

    Names of parameters stay, so checkpoints go both ways between stock models and ours.

    Args:
        model: changed in place.
        args: its settings.
        task: the fairseq task for which it is built.

    Raises:
        UserError: a setting is wrong, or settings exclude each other.
    """
    for stack in stacks_of(model).values():
        remove_fast_path(stack)
    if getattr(args, EPS_SETTING, None) is not None:
        set_norm_eps(model, norm_eps(args))
    if getattr(args, OUTPUT_BIAS_SETTING, None):
        add_output_bias(model.decoder)
    structure = None
    if getattr(args, SUBLAYERS_SETTING, None) is not None:
        structure = model_structure(args)
        remove_missing_sublayers(model, structure)
    for name, stack in stacks_of(model).items():
        layers = [stack.layers[i] for i in range(len(stack.layers))]
        chunks = chunks_of(StackSettings(args, name).share_layers, len(layers), name)
        share_layers(layers, structure[name] if structure else (Layer(),) * len(layers), chunks)
        use_layerdrop(stack, name, args, layers, even_without_rates=getattr(task, "gives_plans", False))
        if hasattr(stack, "layer_importance") and not getattr(task, "learns_rates", False):
            raise UserError(f"--{name}-layerdrop-learned needs one of our tasks; give --task layerdrop_…")
        stack.register_load_state_dict_pre_hook(partial(_fit_state, name, chunks))
    if hasattr(model, "decoder"):
        StepDecoder.take_over(model.decoder)


def set_norm_eps(model, eps: float) -> None:
    """Give all layer norms of *model*, in place, this eps. fairseq builds them with its own."""
    for module in model.modules():
        if hasattr(module, "normalized_shape"):  # torch's LayerNorm, and apex's on a GPU
            module.eps = eps


def add_output_bias(decoder) -> None:
    """Give *decoder*, in place, a bias of each symbol's logit, zeros at first.

    Raises:
        UserError: it has an adaptive softmax in place of one matrix.
    """
    if decoder.output_projection is None:
        raise UserError("--decoder-output-bias and --adaptive-softmax-cutoff exclude each other; leave one of them out")
    weight = decoder.output_projection.weight
    decoder.output_projection.bias = nn.Parameter(weight.new_zeros(len(weight)))


def _fit_state(name, chunks, stack, state_dict, prefix, *_) -> None:
    """Let a state dict that *stack* is about to load fit it: importances may have begun or ended to be learned.

    Raises:
        SystemExit: layers that are to share their weights have different ones. (fairseq's trainer would bury an
            exception of another kind in its own.)
    """
    own = {key: value for key, value in stack.state_dict().items() if key.startswith("layer_importance.")}
    for key in [key for key in state_dict if key.startswith(f"{prefix}layer_importance.")]:
        if key.removeprefix(prefix) not in own:
            del state_dict[key]
    for key, value in own.items():
        state_dict.setdefault(prefix + key, value)
    first = 0
    for size in chunks:
        shared = f"{prefix}layers.{first}."
        for key in [key for key in state_dict if size > 1 and key.startswith(shared)]:
            for other in range(first + 1, first + size):
                twin = state_dict.get(f"{prefix}layers.{other}.{key.removeprefix(shared)}")
                # attentions with different heads are of different shapes
                if twin is not None and twin.shape == state_dict[key].shape and not torch.equal(twin, state_dict[key]):
                    raise SystemExit(
                        f"error: {name} layers {first} and {other} of this checkpoint are to share their weights, and "
                        f"have different ones; leave out --{name}-share-layers, or train from scratch"
                    )
        first += size


def check_settings(args) -> None:
    """Refuse wrong settings before anything is built.

    Raises:
        UserError: a setting is wrong, or settings exclude each other.
    """
    known = [settings for settings in all_stack_settings(args) if settings.layers and not settings.layers_to_keep]
    dropping = [drop_rates(args, settings.stack, settings.layers) for settings in known]
    if any(dropping):
        refuse_sharding(getattr(args, "ddp_backend", None))


def use_layerdrop(stack, name: str, args, layers: list[nn.Module], even_without_rates: bool = False) -> None:
    """Give *stack* a :class:`~fairseq_layerdrop.modules.LayerDropModuleList` of its own layers.

    Args:
        stack: a fairseq encoder or decoder with a module list ``layers``; changed in place. Where all rates are 0,
            it is left alone, unless *even_without_rates*.
        name: ``encoder`` or ``decoder``.
        args: the model's settings.
        layers: its layers.

    Raises:
        UserError: a setting is wrong, or settings exclude each other.
    """
    rates = drop_rates(args, name, len(layers))
    learned = StackSettings(args, name).layerdrop_learned
    if learned and len(set(rates.layers)) > 1:
        raise UserError(f"--{name}-layerdrop-learned finds the rate of each layer; give one rate, --{name}-layerdrop")
    if learned and not 0 < rates.layers[0] < 1:
        raise UserError(f"--{name}-layerdrop-learned needs a mean rate, --{name}-layerdrop, between 0 and 1")
    if not rates and not even_without_rates:
        return
    if any(rates.heads):
        refuse_dropping_heads(args, name, f"--{name}-headdrop")
    if learned:
        stack.layer_importance = LayerImportance(len(layers), stack.layers[0].embed_dim)
    stack.layers = LayerDropModuleList(
        layers,
        rates,
        seed=run_seed(args),
        stack=name,
        returns_tuple=name == "decoder",
        schedule=drop_schedule(args),
        importance=stack.layer_importance if learned else None,
    )


def remove_fast_path(stack) -> None:
    """Take the inference fast path of fairseq 0.12.2 (Python 3.10) out of *stack*; it fails with torch >= 2.0.

    The path needs second copies of a layer's weights, which are parameters of their own and are filled when a state
    dict is loaded. fairseq's main branch has neither path nor copies, and without them checkpoints go both ways.
    """
    for i in range(len(stack.layers)):
        layer = stack.layers[i]
        if hasattr(layer, "can_use_fastpath"):
            for name, _ in list(layer.named_parameters(recurse=False)):
                delattr(layer, name)
            layer._load_from_state_dict = types.MethodType(nn.Module._load_from_state_dict, layer)
