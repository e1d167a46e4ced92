"""What an import makes of a model, and what it refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from .folder import ImportFolderError
from .tokens import Vocabulary

# fairseq's activations, by transformers' names.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_accurate",
    "gelu_fast": "gelu_accurate",
    "gelu_pytorch_tanh": "gelu_accurate",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
# What a setting of a config.json, where it is given and neither None nor false nor 0, asks for that fairseq's models
# haven't got. Most are of families that aren't known here: they tell why.
_FOREIGN = {
    "rope_theta": "rotary positions",
    "rope_parameters": "rotary positions",
    "rope_scaling": "rotary positions",
    "rotary_dim": "rotary positions",
    "rotary_pct": "rotary positions",
    "rotary_emb_base": "rotary positions",
    "rotary": "rotary positions",
    "alibi": "linear biases of positions",
    "relative_attention_num_buckets": "relative positions",
    "relative_attention": "relative positions",
    "position_buckets": "relative positions",
    "rms_norm_eps": "RMSNorm",
    "is_gated_act": "a gated feed-forward",
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
    "num_sparse_encoder_layers": "a mixture of experts",
    "num_sparse_decoder_layers": "a mixture of experts",
    "adapter_reduction_factor": "adapters",
    "adapters": "adapters",
    "attention_window": "attention within windows",
    "embedding_size": "factorised embeddings",
    "quantization_config": "quantised weights",
    "add_cross_attention": "attention to another model's encoder",
}


@dataclass(frozen=True)
class Imported:
    """A model as fairseq's.

    Attributes:
        settings: of the model; ``arch`` is one of ours.
        weights: its state dict.
        vocabularies: the symbols by the names of dictionaries' files.
        task: settings of the task; ``_name`` is fairseq's.
        criterion: fairseq's, for the task.
        labels: names of a classifier's labels.
        notes: what there is to tell of it, in lines.
    """

    settings: dict
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    vocabularies: Mapping[str, Vocabulary] = field(repr=False)
    task: dict
    criterion: str
    labels: Sequence[str] = ()
    notes: Sequence[str] = ()


def foreign(config: Mapping) -> list[str]:
    """What a model's settings ask for and fairseq's models haven't got, each with the setting."""
    found = [f"{what} ({name})" for name, what in _FOREIGN.items() if config.get(name)]
    if config.get("position_embedding_type", "absolute") != "absolute":
        found.append(f"relative positions (position_embedding_type {config['position_embedding_type']})")
    if str(config.get("feed_forward_proj", "")).startswith("gated"):
        found.append(f"a gated feed-forward (feed_forward_proj {config['feed_forward_proj']})")
    return found


def refuse(reasons: Sequence[tuple[object, str]], model_type: str) -> None:
    """Refuse a model for all of the *reasons* that hold.

    Raises:
        ImportFolderError: one does.
    """
    found = [what for is_so, what in reasons if is_so]
    if found:
        raise ImportFolderError(f"fairseq's models can't be this {model_type}: they have no {'; nor '.join(found)}")


def activation(name) -> tuple[bool, str]:
    """Whether fairseq lacks an activation of transformers, and how to say so."""
    return name not in ACTIVATIONS, f"activation {name}"


def with_version(weights: Mapping[str, torch.Tensor], *stacks: str) -> dict[str, torch.Tensor]:
    """*weights* with the version of each stack; without it, fairseq takes the last norm of a pre-norm stack away."""
    return {**weights, **{f"{stack}.version": torch.tensor([3.0]) for stack in stacks}}


def check_rows(table: torch.Tensor | None, config: Mapping) -> torch.Tensor:
    """The table of embeddings, checked to have a row for each symbol of the settings.

    Raises:
        ImportFolderError: it isn't there, or of another size.
    """
    size = config.get("vocab_size")
    if table is None or table.dim() != 2 or size not in (None, len(table)):
        found = "have none" if table is None else f"have the shape {list(table.shape)}"
        raise ImportFolderError(
            f"the weights don't go with config.json: embeddings {found}, for a vocab_size of {size}"
        )
    return table


def check_shapes(weights: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a state dict is one of the model that the settings describe.

    Raises:
        ImportFolderError: a tensor is missing, is of another shape or has no place.
    """
    for key, shape in shapes.items():
        if key not in weights:
            raise ImportFolderError(f"the weights don't go with config.json: they lack what becomes {key}")
        if tuple(weights[key].shape) != shape:
            raise ImportFolderError(
                f"the weights don't go with config.json: what becomes {key} has the shape "
                f"{list(weights[key].shape)}, and should have {list(shape)}"
            )
    more = sorted(weights.keys() - shapes.keys())
    if more:
        raise ImportFolderError(f"the weights don't go with config.json: there is no place for what becomes {more[0]}")
