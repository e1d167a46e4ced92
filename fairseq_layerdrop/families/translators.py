"""Encoder-decoder models that compute what fairseq's ``transformer`` does: BART, Marian, M2M-100 and their kin."""

from dataclasses import dataclass, field
from typing import Literal

from .names import Names

_ATTENTIONS = [f"{{}}.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")]
_LAYER = [
    *(name.format("self_attn") for name in _ATTENTIONS),
    *(name.format("encoder_attn") for name in _ATTENTIONS),
    "self_attn_layer_norm", "encoder_attn_layer_norm", "fc1", "fc2", "final_layer_norm",
]  # fmt: skip
_STACK = [
    "embed_tokens",
    "embed_positions",
    "layernorm_embedding",
    "layer_norm",
    *(f"layers.#.{part}" for part in _LAYER),
]
# fairseq's names of modules, by transformers' without `model.` before them.
NAMES: Names = {
    **{f"{stack}.{name}": f"{stack}.{name}" for stack in ("encoder", "decoder") for name in _STACK},
    "shared": "shared",
    "lm_head": "decoder.output_projection",
    "decoder.output_projection": "decoder.output_projection",
}


@dataclass(frozen=True)
class Translator:
    """A family of encoder-decoder models.

    Attributes:
        classes: names of its classes; the first one predicts symbols.
        pre_norm: whether layers begin with their norms, and stacks end with one.
        embedding_norm: whether embeddings have a norm.
        positions: ``learned``; ``sinusoidal``, fairseq's; or ``marian``, sinusoids of other frequencies.
        first_position: row of the table of positions that a text's first symbol takes.
        files: of the vocabularies of source and target, where there are two.
        defaults: of settings that a ``config.json`` leaves out.
    """

    classes: tuple[str, ...]
    pre_norm: bool
    embedding_norm: bool
    positions: Literal["learned", "sinusoidal", "marian"]
    first_position: int = 0
    files: tuple[tuple[str, ...], ...] = ()
    defaults: dict = field(default_factory=dict)


def _classes(name: str, *others: str) -> tuple[str, ...]:
    return (f"{name}ForConditionalGeneration", f"{name}Model", *others)


TRANSLATORS = {
    "bart": Translator(_classes("Bart"), False, True, "learned", 2),
    "mbart": Translator(_classes("MBart"), True, True, "learned", 2),
    "marian": Translator(
        ("MarianMTModel", "MarianModel"), False, False, "marian", files=(("vocab.json",), ("target_vocab.json",))
    ),
    "m2m_100": Translator(
        _classes("M2M100"), True, False, "sinusoidal", defaults={"scale_embedding": True, "activation_function": "relu"}
    ),
    "pegasus": Translator(_classes("Pegasus"), True, False, "marian"),
    "blenderbot": Translator(_classes("Blenderbot"), True, False, "learned"),
    "fsmt": Translator(
        _classes("FSMT"), False, False, "sinusoidal", files=(("vocab-src.json",), ("vocab-tgt.json",)),
        defaults={"scale_embedding": True, "activation_function": "relu", "tie_word_embeddings": False},
    ),
}  # fmt: skip
