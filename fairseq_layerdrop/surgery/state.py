"""Plan x state dict -> smaller state dict, by the names of keys."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from fairseq.models import FairseqDecoder, FairseqEncoder
from torch import nn

from ..base.errors import UserError
from ..modules import rows_of_heads
from ..plan import STACKS, SUB_LAYERS, Layer, Plan, Structure, SubLayer

# The number of a Transformer layer in a state dict's key: `encoder.layers.3.…`, RoBERTa's
# `encoder.sentence_encoder.layers.3.…` (in its oldest checkpoints under `decoder.`), multilingual
# `models.de-en.encoder.layers.3.…`.
# Other lists that are called `layers`, as in `decoder.embed_tokens.highway.layers.0`, must not match.
_LAYER_KEY = re.compile(
    r"(?P<head>(?:models\.[^.]+\.)?(?P<part>encoder|decoder)\.(?P<sentence>sentence_encoder\.)?layers\.)"
    r"(?P<layer>\d+)(?P<tail>\..+)?"
)
# The sub-layer that a layer's key belongs to, by what follows the layer's number. Checkpoints of fairseq before 0.6
# number the norms: 0 and 1 in an encoder's layers; 0, 1 and 2 in a decoder's, also where there is no encoder_attn.
_SUB_LAYER_KEY = re.compile(
    r"\.(?:(?P<self_attn>self_attn|attn_ln|c_attn|layer_norms\.0)"
    r"|(?P<encoder_attn>encoder_attn|layer_norms\.1)"
    r"|(?P<ffn>fc1|fc2|final_layer_norm|ffn_layernorm|w_resid|layer_norms\.2))(?:_layer_norm)?(?:\..+)?"
)
# What a stack with learned rates holds beside its layers.
_IMPORTANCE_KEY = re.compile(
    r"(?:models\.[^.]+\.)?(?P<part>encoder|decoder)\.(?P<sentence>sentence_encoder\.)?layer_importance\.(?P<tail>.+)"
)


class DepthError(UserError):
    """A state dict whose layers are neither those before nor those after a plan."""


def _stack_of(match: re.Match) -> str:
    return "encoder" if match["sentence"] else match["part"]


def _sub_layer_of(match: re.Match) -> str | None:
    """The sub-layer that a layer's key belongs to; None for what belongs to the layer as a whole."""
    named = _SUB_LAYER_KEY.fullmatch(match["tail"])
    if not named:
        return None
    if _stack_of(match) == "encoder" and named["encoder_attn"]:
        return "ffn"  # the second norm of an encoder layer
    return named.lastgroup


def layer_of(key: str) -> tuple[str, int] | None:
    """Stack and number of the Transformer layer that a state dict's *key* belongs to; None for other keys."""
    match = _LAYER_KEY.fullmatch(key)
    return (_stack_of(match), int(match["layer"])) if match and match["tail"] else None


def shared_keys(state_dict: Mapping, chunks: Mapping[str, Sequence[int]]) -> set[str]:
    """Keys of those of layers' tensors that an earlier layer of the same chunk holds too.

    Their values tell, since a checkpoint that was saved from a GPU holds tensors apart that were shared, and so does
    one that lost heads.

    Args:
        state_dict: of a model.
        chunks: for each stack the sizes of its chunks of layers that share weights, from first to last.
    """
    firsts: dict[tuple, list[torch.Tensor]] = {}
    shared = set()
    for key, tensor in state_dict.items():
        stack, number = layer_of(key) or ("", 0)
        sizes = chunks.get(stack, ())
        chunk = next((i for i in range(len(sizes)) if number < sum(sizes[: i + 1])), None)
        if chunk is None or sizes[chunk] == 1:
            continue
        others = firsts.setdefault((stack, chunk, key.partition(f"layers.{number}.")[2]), [])
        if any(tensor.shape == other.shape and torch.equal(tensor, other) for other in others):
            shared.add(key)
        else:
            others.append(tensor)
    return shared


def layers_of(model: nn.Module) -> Iterable[tuple[str, int, nn.Module]]:
    """The Transformer layers of *model*, each with its stack and number."""
    for name, module in model.named_modules():
        match = _LAYER_KEY.fullmatch(name)
        if match and not match["tail"]:
            yield _stack_of(match), int(match["layer"]), module


def stacks_of(model: nn.Module) -> dict[str, FairseqEncoder | FairseqDecoder]:
    """The modules of *model* that have Transformer layers, by name of the stack; RoBERTa's is within its encoder."""
    found = {name: getattr(model, name, None) for name in STACKS}
    found = {name: getattr(module, "sentence_encoder", module) for name, module in found.items()}
    return {name: module for name, module in found.items() if hasattr(module, "layers")}


def state_structure(state_dict: Mapping) -> dict[str, tuple[Layer, ...]]:
    """Structure of the model whose *state_dict* this is: the sub-layers of each layer, by the names of its keys."""
    found: dict[str, dict[int, set]] = {}
    for match in filter(None, map(_LAYER_KEY.fullmatch, state_dict)):
        if match["tail"]:
            parts = found.setdefault(_stack_of(match), {}).setdefault(int(match["layer"]), set())
            if not match["tail"].startswith(".layer_norms."):  # old language models have one for an encoder_attn
                parts.update({_sub_layer_of(match)} - {None})
    return {
        stack: tuple(Layer.of(*sorted(layers.get(i, ()), key=SUB_LAYERS.index)) for i in range(max(layers) + 1))
        for stack, layers in found.items()
    }


def is_transformer(state_dict: Mapping) -> bool:
    """Whether *state_dict* is of a Transformer, with layers of self-attention and of feed-forward."""
    return {"self_attn", "ffn"} <= {
        part for layers in state_structure(state_dict).values() for layer in layers for part in layer.names
    }


def _has_heads(state_dict: Mapping, structure: Structure) -> bool:
    """Whether the attentions of *state_dict* have as many heads as *structure* tells.

    A state dict doesn't tell how many there are in all, but what part of them: an attention with all of its heads has
    as many rows in its projections as columns.
    """
    for key, tensor in state_dict.items():
        match = _LAYER_KEY.fullmatch(key)
        found = re.fullmatch(r"\.(\w+_attn)\.(q_proj\.weight|in_proj_weight)", match["tail"] or "") if match else None
        if match and found and _stack_of(match) in structure:
            sub_layer = structure[_stack_of(match)][int(match["layer"])].find(found[1])
            heads, total = (len(sub_layer.heads), sub_layer.total) if sub_layer and sub_layer.heads else (1, 1)
            rows = tensor.shape[0] // (3 if found[2] == "in_proj_weight" else 1)
            if rows * total != tensor.shape[1] * heads:
                return False
    return True


def _same_layers(found: Sequence[Layer], planned: Sequence[Layer]) -> bool:
    """Whether a state dict's layers are a plan's but for heads; those of other models than Transformers are counted."""
    known = {"self_attn", "ffn"} <= {name for layer in found for name in layer.names}
    same = not known or all(layer.names == plan.names for layer, plan in zip(found, planned))
    return same and len(found) == len(planned)


def learned_importance(state_dict: Mapping) -> dict[str, tuple[float, ...]]:
    """The learned importance of each layer (Data Driven Pruning), by stack, of those that have any."""
    found = {match: state_dict[match.string] for match in map(_IMPORTANCE_KEY.fullmatch, state_dict) if match}
    return {_stack_of(match): tuple(scores.tolist()) for match, scores in found.items() if match["tail"] == "scores"}


def without_importance(state_dict: Mapping, stacks: Collection[str] = STACKS) -> dict:
    """*state_dict* without what *stacks* have learned of their layers' importance."""
    matches = {key: _IMPORTANCE_KEY.fullmatch(key) for key in state_dict}
    return {key: state_dict[key] for key, match in matches.items() if not match or _stack_of(match) not in stacks}


def has_structure(state_dict: Mapping, structure: Structure) -> bool:
    """Whether the stacks of *structure* are those of *state_dict*, with as many heads in each attention."""
    found = state_structure(state_dict)
    same = all(_same_layers(found.get(stack, ()), layers) for stack, layers in structure.items())
    return same and _has_heads(state_dict, structure)


def _with_heads(tail: str, value, full: SubLayer, keep: SubLayer):
    """What is left of a tensor of an attention that had the heads in *full*, of those in *keep*."""
    had = full.heads_of(keep.total)
    places = [had.index(head) for head in keep.heads]
    projection = re.fullmatch(r"\.\w+\.(?P<name>[qkv]_proj|out_proj|in_proj_weight|in_proj_bias)(?:\.\w+)?", tail)
    if projection is None:
        return value  # of a norm, or fairseq's per-head factors of the attention's output
    if projection["name"] == "out_proj":
        return value if value.dim() == 1 else value[:, rows_of_heads(places, value.shape[1] // len(had))]
    stacked = 3 if projection["name"].startswith("in_proj") else 1  # old checkpoints hold q, k and v in one
    rows = [part[rows_of_heads(places, part.shape[0] // len(had))] for part in value.chunk(stacked)]
    return torch.cat(rows)


def slice_state_dict(state_dict: Mapping, plan: Plan) -> dict:
    """The state dict of the pruned model: keys of dropped layers and sub-layers are gone, the layers renumbered.

    Where an attention loses heads, their rows and columns are taken out of its matrices, which are then copies. With
    layers go the importances that their stack has learned. All other keys stay. The other tensors are those of
    *state_dict*, and *state_dict* isn't changed. Only names of keys are looked at, so keys of any age work: slice
    before fairseq upgrades them, since its upgrade walks the small model and would miss the layers numbered beyond it.

    Args:
        state_dict: of the full model.
        plan: a plan for its structure; stacks that the plan doesn't name stay whole.

    Raises:
        DepthError: the state dict has other layers than the plan is for.
    """
    structure = state_structure(state_dict)
    for stack, part in plan.stacks.items():
        layers = structure.get(stack, ())
        if len(layers) != part.depth:
            raise DepthError(
                f"the plan is for {part.depth} {stack} layers, but the checkpoint has {len(layers)}; a training that "
                f"begins with it needs --{stack}-layers {len(layers)}, which the plan makes smaller"
            )
        if not _same_layers(layers, part.full):
            number = next(i for i, layer in enumerate(layers) if layer.names != part.full[i].names)
            raise DepthError(
                f"the plan is for {stack} layers of which number {number} has {part.full[number]}, but in the "
                f"checkpoint it has {layers[number]}"
            )
    renumbered = {stack: {old: new for new, old in enumerate(part.layers)} for stack, part in plan.stacks.items()}
    sliced = {}
    changed = [stack for stack, part in plan.stacks.items() if len(part.layers) < part.depth]
    for key, value in without_importance(state_dict, changed).items():
        match = _LAYER_KEY.fullmatch(key)
        if match and match["tail"] and (stack := _stack_of(match)) in renumbered:
            number, name = int(match["layer"]), _sub_layer_of(match)
            part = plan.stacks[stack]
            full, keep = part.full[number].find(name), part.keep[number].find(name)
            if number not in renumbered[stack] or (full and not keep):
                continue
            if full and keep and full != keep:
                value = _with_heads(match["tail"], value, full, keep)
            key = f"{match['head']}{renumbered[stack][number]}{match['tail']}"
        sliced[key] = value
    return sliced
