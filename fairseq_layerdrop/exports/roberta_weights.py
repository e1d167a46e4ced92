"""The weights of fairseq's RoBERTa under the names of transformers'."""

import re
from collections.abc import Iterator, Mapping

import torch

from ..surgery.architectures import ExportError


def entries(state_dict: Mapping) -> Iterator[tuple[str, torch.Tensor]]:
    """The entries of *state_dict*; the oldest keep an attention's three projections in one, which is split."""
    for key, tensor in state_dict.items():
        stacked = re.fullmatch(r"(.+\.self_attn\.)in_proj_(weight|bias)", key)
        if stacked:
            yield from ((f"{stacked[1]}{name}_proj.{stacked[2]}", part) for name, part in zip("qkv", tensor.chunk(3)))
        else:
            yield key, tensor


def _new_names(head: str | None, pre_norm: bool, tied: bool) -> dict[str, str | None]:
    """Templates of transformers' keys by patterns of fairseq's; None for what its model has no use for."""
    base = "roberta_prelayernorm" if pre_norm else "roberta"
    layer = rf"{base}.encoder.layer.\g<layer>"
    first_norm, last_norm = ("attention", "intermediate") if pre_norm else ("attention.output", "output")
    modules = {
        r"embed_tokens": f"{base}.embeddings.word_embeddings",
        r"embed_positions": f"{base}.embeddings.position_embeddings",
        r"(layernorm_embedding|emb_layer_norm)": f"{base}.embeddings.LayerNorm",
        r"layer_norm": f"{base}.LayerNorm",
    }
    modules_of_layers = {
        r"self_attn\.q_proj": "attention.self.query",
        r"self_attn\.k_proj": "attention.self.key",
        r"self_attn\.v_proj": "attention.self.value",
        r"self_attn\.out_proj": "attention.output.dense",
        r"self_attn_layer_norm": f"{first_norm}.LayerNorm",
        r"fc1": "intermediate.dense",
        r"fc2": "output.dense",
        r"final_layer_norm": f"{last_norm}.LayerNorm",
    }
    modules |= {rf"layers\.(?P<layer>\d+)\.{old}": f"{layer}.{new}" for old, new in modules_of_layers.items()}
    # The oldest checkpoints call the encoder a decoder.
    names: dict[str, str | None] = {
        rf"(en|de)coder\.sentence_encoder\.{old}\.(?P<kind>weight|bias)": rf"{new}.\g<kind>"
        for old, new in modules.items()
    }
    # Official fairseq 0.12.2 keeps a copy of each layer's matrices for its fast path.
    names[r"(en|de)coder\.sentence_encoder\.(version|layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias))"] = None
    if head is None:
        names[r"(en|de)coder\.lm_head\.(?P<rest>(dense|layer_norm)\.(weight|bias)|bias)"] = r"lm_head.\g<rest>"
        names[r"(en|de)coder\.lm_head\.weight"] = None if tied else "lm_head.decoder.weight"
    else:
        own = rf"classification_heads\.{re.escape(head)}\.(?P<rest>(dense|out_proj)\.(weight|bias))"
        names[own] = r"classifier.\g<rest>"
        names[r"classification_heads\..+|(en|de)coder\.lm_head\..+"] = None
    return names


def transformers_state_dict(
    state_dict: Mapping, head: str | None = None, pre_norm: bool = False, tied: bool = True
) -> dict[str, torch.Tensor]:
    """The state dict of transformers' RoBERTa with the weights of fairseq's.

    Args:
        state_dict: of a fairseq RoBERTa, also of an old one; isn't changed.
        head: name of the classification head of a ``…ForSequenceClassification``; None for a ``…ForMaskedLM``.
        pre_norm: whether its layers begin with their norms, as those of ``RobertaPreLayerNorm``.
        tied: whether the masked language model predicts with its embeddings.

    Returns:
        the same tensors under other names, and embeddings of the one type of tokens: zeros of shape `1 x C`.

    Raises:
        ExportError: it has a tensor that transformers' model has no place for.
    """
    names = _new_names(head, pre_norm, tied)
    renamed = {}
    for key, tensor in entries(state_dict):
        match = next(filter(None, (re.fullmatch(pattern, key) for pattern in names)), None)
        if match is None:
            raise ExportError(f"transformers' RoBERTa has no place for {key}")
        template = names[match.re.pattern]
        if template is not None:
            renamed[match.expand(template)] = tensor
    [words] = [key for key in renamed if key.endswith(".word_embeddings.weight")]
    renamed[words.replace("word", "token_type")] = renamed[words].new_zeros(1, renamed[words].shape[1])
    if head is None and not tied:
        renamed["lm_head.decoder.bias"] = renamed["lm_head.bias"]
    return renamed
