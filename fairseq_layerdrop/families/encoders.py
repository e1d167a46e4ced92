"""Encoders that compute what fairseq's RoBERTa does: BERT, RoBERTa, DistilBERT and their kin."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .names import Names

# The classification head's name, fairseq's default.
HEAD = "sentence_classification_head"
_STACK = "encoder.sentence_encoder"
# transformers' names of settings, where a family has no other.
_SETTINGS = {
    name: name
    for name in (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "max_position_embeddings",
    )
}  # fmt: skip
_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
}


@dataclass(frozen=True)
class Encoder:
    """A family of encoders.

    Attributes:
        model: what its classes' names begin with.
        prefix: what the names of the encoder's weights begin with, in models with a head.
        base: fairseq's names of its modules by transformers'.
        heads: likewise of the heads of a masked language model.
        classifier: likewise of a classification head.
        after_pad: whether positions count from the padding symbol's number + 1, as fairseq's, and not from 0.
        pre_norm: whether layers begin with their norms.
        gelu_head: whether the head of a masked language model has gelu, whatever the layers have.
        pooler: the activation between the two layers of the classification head.
        settings: transformers' names of settings, by those of BERT.
        defaults: of settings that a ``config.json`` leaves out.
        eps: the layer norms' eps, where no setting has it.
    """

    model: str
    prefix: str
    base: Names = field(repr=False)
    heads: Names = field(repr=False)
    classifier: Names = field(repr=False)
    after_pad: bool = False
    pre_norm: bool = False
    gelu_head: bool = False
    pooler: str = "tanh"
    settings: Mapping[str, str] = field(default_factory=lambda: _SETTINGS, repr=False)
    defaults: Mapping[str, object] = field(default_factory=lambda: _DEFAULTS, repr=False)
    eps: float | None = None

    def setting(self, config: Mapping, name: str):
        """The value that *config* gives to BERT's setting *name*."""
        theirs = self.settings.get(name, name)
        return config.get(theirs, self.defaults.get(name))


def _base(embeddings: str, layers: str, last_norm: str | None = None, **modules: str) -> dict[str, str | None]:
    """A table of the encoder's modules; *modules* are fairseq's of a layer, ``__`` being a dot, and transformers'."""
    table = {
        f"{embeddings}.word_embeddings": f"{_STACK}.embed_tokens",
        f"{embeddings}.position_embeddings": f"{_STACK}.embed_positions",
        f"{embeddings}.token_type_embeddings": f"{_STACK}.token_types",
        f"{embeddings}.LayerNorm": f"{_STACK}.layernorm_embedding",
        embeddings: None,  # buffers of position numbers in older files
    }
    table |= {
        f"{layers}.#.{theirs}": f"{_STACK}.layers.#.{ours.replace('__', '.')}" for ours, theirs in modules.items()
    }
    return table | ({last_norm: f"{_STACK}.layer_norm"} if last_norm else {})


def _bert_base(pre_norm: bool = False) -> dict[str, str | None]:
    first, last = ("attention", "intermediate") if pre_norm else ("attention.output", "output")
    return _base(
        "embeddings", "encoder.layer", "LayerNorm" if pre_norm else None,
        self_attn__q_proj="attention.self.query", self_attn__k_proj="attention.self.key",
        self_attn__v_proj="attention.self.value", self_attn__out_proj="attention.output.dense",
        self_attn_layer_norm=f"{first}.LayerNorm", fc1="intermediate.dense", fc2="output.dense",
        final_layer_norm=f"{last}.LayerNorm",
    )  # fmt: skip


_DISTILBERT = _base(
    "embeddings", "transformer.layer",
    self_attn__q_proj="attention.q_lin", self_attn__k_proj="attention.k_lin", self_attn__v_proj="attention.v_lin",
    self_attn__out_proj="attention.out_lin", self_attn_layer_norm="sa_layer_norm", fc1="ffn.lin1", fc2="ffn.lin2",
    final_layer_norm="output_layer_norm",
)  # fmt: skip


def _heads(dense: str, norm: str, output: str, bias: str, **none: None) -> dict[str, str | None]:
    head = "encoder.lm_head"
    return {bias: head, output: head, dense: f"{head}.dense", norm: f"{head}.layer_norm", **none}


def _classifier(dense: str, output: str) -> dict[str, str]:
    return {dense: f"classification_heads.{HEAD}.dense", output: f"classification_heads.{HEAD}.out_proj"}


def _roberta(model: str, prefix: str = "roberta", pre_norm: bool = False) -> Encoder:
    return Encoder(
        model,
        prefix,
        _bert_base(pre_norm),
        _heads("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head"),
        _classifier("classifier.dense", "classifier.out_proj"),
        after_pad=True,
        gelu_head=True,
        pre_norm=pre_norm,
    )


ENCODERS = {
    "bert": Encoder(
        "Bert",
        "bert",
        _bert_base(),
        _heads(
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder",
            "cls.predictions",
        )
        | {"cls.seq_relationship": None},
        _classifier("pooler.dense", "classifier"),
    ),
    "distilbert": Encoder(
        "DistilBert",
        "distilbert",
        _DISTILBERT,
        _heads("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector"),
        _classifier("pre_classifier", "classifier"),
        pooler="relu",
        settings={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        defaults=_DEFAULTS | {"num_hidden_layers": 6},
        eps=1e-12,
    ),
    "roberta": _roberta("Roberta"),
    "xlm-roberta": _roberta("XLMRoberta"),
    "camembert": _roberta("Camembert"),
    "roberta-prelayernorm": _roberta("RobertaPreLayerNorm", "roberta_prelayernorm", pre_norm=True),
}
