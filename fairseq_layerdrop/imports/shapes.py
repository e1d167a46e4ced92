"""The shapes of fairseq's models' tensors, by settings: what a folder's weights are checked against."""

from collections.abc import Mapping

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, out: int, width: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def layers(prefix: str, depth: int, width: int, inner: int, attends_to: int | None = None) -> Shapes:
    """A stack's layers, in a decoder with attention to states of the width *attends_to*."""
    shapes: Shapes = {}
    for number in range(depth):
        layer = f"{prefix}.layers.{number}"
        attentions = {"self_attn": width} | ({"encoder_attn": attends_to} if attends_to else {})
        for name, keys in attentions.items():
            for projection, read in (("q", width), ("k", keys), ("v", keys), ("out", width)):
                shapes |= linear(f"{layer}.{name}.{projection}_proj", width, read)
            shapes |= norm(f"{layer}.{name}_layer_norm", width)
        shapes |= linear(f"{layer}.fc1", inner, width) | linear(f"{layer}.fc2", width, inner)
        shapes |= norm(f"{layer}.final_layer_norm", width)
    return shapes


def roberta(settings: Mapping, symbols: int, heads: Mapping[str, int]) -> Shapes:
    """A RoBERTa with classification heads of so many classes."""
    stack, width = "encoder.sentence_encoder", settings["encoder_embed_dim"]
    shapes = layers(stack, settings["encoder_layers"], width, settings["encoder_ffn_embed_dim"])
    shapes |= {
        f"{stack}.embed_tokens.weight": (symbols, width),
        f"{stack}.embed_positions.weight": (settings["max_positions"] + 2, width),
    }
    shapes |= norm(f"{stack}.layernorm_embedding", width)
    if settings["encoder_normalize_before"]:
        shapes |= norm(f"{stack}.layer_norm", width)
    shapes |= linear("encoder.lm_head", symbols, width) | linear("encoder.lm_head.dense", width, width)
    shapes |= norm("encoder.lm_head.layer_norm", width)
    for head, classes in heads.items():
        shapes |= linear(f"classification_heads.{head}.dense", width, width)
        shapes |= linear(f"classification_heads.{head}.out_proj", classes, width)
    return shapes


def language_model(settings: Mapping, symbols: int) -> Shapes:
    """A ``transformer_lm``; those of a learned table of positions are among them, those of sinusoids aren't."""
    width, inner = settings["decoder_embed_dim"], settings["decoder_input_dim"]
    shapes = layers("decoder", settings["decoder_layers"], width, settings["decoder_ffn_embed_dim"])
    shapes |= {f"decoder.{name}.weight": (symbols, inner) for name in ("embed_tokens", "output_projection")}
    if settings["decoder_learned_pos"]:
        shapes["decoder.embed_positions.weight"] = (settings["max_target_positions"] + 2, width)
    if settings["decoder_normalize_before"] and not settings["no_decoder_final_norm"]:
        shapes |= norm("decoder.layer_norm", width)
    if inner != width:
        shapes |= {"decoder.project_in_dim.weight": (width, inner), "decoder.project_out_dim.weight": (inner, width)}
    return shapes


def transformer(settings: Mapping, source: int, target: int) -> Shapes:
    """A ``transformer``; sinusoids are in no table."""
    width = settings["encoder_embed_dim"]
    shapes: Shapes = {"decoder.output_projection.weight": (target, width)}
    for stack, symbols, side in (("encoder", source, "source"), ("decoder", target, "target")):
        attends_to = width if stack == "decoder" else None
        shapes |= layers(stack, settings[f"{stack}_layers"], width, settings[f"{stack}_ffn_embed_dim"], attends_to)
        shapes[f"{stack}.embed_tokens.weight"] = (symbols, width)
        if settings[f"{stack}_learned_pos"]:
            shapes[f"{stack}.embed_positions.weight"] = (settings[f"max_{side}_positions"] + 2, width)
        for name, there in (
            ("layernorm_embedding", settings["layernorm_embedding"]),
            ("layer_norm", settings[f"{stack}_normalize_before"]),
        ):
            shapes |= norm(f"{stack}.{name}", width) if there else {}
    if settings["decoder_output_bias"]:
        shapes["decoder.output_projection.bias"] = (target,)
    return shapes
