"""Language models that compute what fairseq's ``transformer_lm`` does: OPT, GPT-2, BioGPT and XGLM."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .names import Names

_SETTINGS = {
    name: name
    for name in (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings",
    )
}  # fmt: skip
_LAYER = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "self_attn_layer_norm", "fc1",
    "fc2", "final_layer_norm",
)  # fmt: skip


@dataclass(frozen=True)
class LanguageModel:
    """A family of language models.

    Attributes:
        model: what its classes' names begin with.
        heads: names of the classes that predict symbols, after that.
        prefix: what the names of the decoder's weights begin with, in these classes.
        base: fairseq's names of its modules by transformers'.
        output: transformers' name of the output matrix.
        settings: transformers' names of settings, by those of BERT.
        defaults: of settings that a ``config.json`` leaves out.
        first_position: row of the table of positions that a text's first symbol takes; None for sinusoids.
        columns: whether matrices are kept as ``in x out`` and the three projections of an attention as one (GPT-2).
        scales: whether embeddings are multiplied with the root of their width, unless ``scale_embedding`` is false.
        eps: the setting of the layer norms' eps; None where it is fairseq's.
    """

    model: str
    heads: tuple[str, ...]
    prefix: str
    base: Names = field(repr=False)
    output: str
    settings: Mapping[str, str] = field(repr=False)
    defaults: Mapping[str, object] = field(repr=False)
    first_position: int | None = 2
    columns: bool = False
    scales: bool = False
    eps: str | None = None

    def setting(self, config: Mapping, name: str):
        """The value that *config* gives to BERT's setting *name*, or another one."""
        return config.get(self.settings.get(name, name), self.defaults.get(name))


def _base(prefix: str, last_norm: str, **more: str | None) -> dict[str, str | None]:
    table: dict[str, str | None] = {
        f"{prefix}{name}": f"decoder.{name}"
        for name in ("embed_tokens", "embed_positions", *(f"layers.#.{part}" for part in _LAYER))
    }
    return table | {f"{prefix}{last_norm}": "decoder.layer_norm"} | {f"{prefix}{key}": more[key] for key in more}


_GPT2 = {
    "wte": "decoder.embed_tokens",
    "wpe": "decoder.embed_positions",
    "ln_f": "decoder.layer_norm",
    "h.#.ln_1": "decoder.layers.#.self_attn_layer_norm",
    "h.#.attn.c_attn": "decoder.layers.#.self_attn.qkv_proj",
    "h.#.attn.c_proj": "decoder.layers.#.self_attn.out_proj",
    "h.#.ln_2": "decoder.layers.#.final_layer_norm",
    "h.#.mlp.c_fc": "decoder.layers.#.fc1",
    "h.#.mlp.c_proj": "decoder.layers.#.fc2",
    "h.#.attn": None,  # buffers of masks in older files
}
LANGUAGE_MODELS = {
    "opt": LanguageModel(
        "OPT",
        ("ForCausalLM",),
        "model",
        _base(
            "decoder.", "final_layer_norm", project_in="decoder.project_in_dim", project_out="decoder.project_out_dim"
        ),
        "lm_head",
        _SETTINGS
        | {
            "intermediate_size": "ffn_dim",
            "hidden_act": "activation_function",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_act": "relu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.0,
            "do_layer_norm_before": True,
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
        },
    ),
    "gpt2": LanguageModel(
        "GPT2",
        ("LMHeadModel",),
        "transformer",
        _GPT2,
        "lm_head",
        {
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "intermediate_size": "n_inner",
            "hidden_act": "activation_function",
            "hidden_dropout_prob": "resid_pdrop",
            "attention_probs_dropout_prob": "attn_pdrop",
            "max_position_embeddings": "n_positions",
        },
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "gelu_new",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "layer_norm_epsilon": 1e-5,
        },
        first_position=0,
        columns=True,
        eps="layer_norm_epsilon",
    ),
    "biogpt": LanguageModel(
        "BioGpt",
        ("ForCausalLM",),
        "biogpt",
        _base("", "layer_norm"),
        "output_projection",
        _SETTINGS,
        {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        },
        scales=True,
    ),
    "xglm": LanguageModel(
        "XGLM",
        ("ForCausalLM",),
        "model",
        _base("", "layer_norm") | {"embed_positions": None},
        "lm_head",
        _SETTINGS
        | {
            "hidden_size": "d_model",
            "num_hidden_layers": "num_layers",
            "num_attention_heads": "attention_heads",
            "intermediate_size": "ffn_dim",
            "hidden_act": "activation_function",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": 2048,
        },
        first_position=None,
        scales=True,
    ),
}
