"""Taking sub-layers out of fairseq's Transformer layers.

fairseq's layers compute each sub-layer as ``x + dropout(f(norm(x)))`` (pre-norm) or ``norm(x + dropout(f(x)))``
(post-norm). With the norm gone and zero in place of f, both are x: the identity. The zero is a scalar, so that nothing
is computed but its addition.
"""

from collections.abc import Iterable

from torch import nn

# The attributes of a layer that make up each sub-layer; those of fairseq's NormFormer options are there on request.
_MODULES = {
    "self_attn": ("self_attn", "self_attn_layer_norm", "attn_ln", "c_attn"),
    "encoder_attn": ("encoder_attn", "encoder_attn_layer_norm"),
    "ffn": ("fc1", "fc2", "final_layer_norm", "ffn_layernorm", "w_resid"),
}


class Zero(nn.Module):
    """In place of a module whose output is added to a residual: returns a zero scalar."""

    def forward(self, x, *args, **kwargs):
        return x.new_zeros(())


class ZeroAttention(Zero):
    """In place of fairseq's MultiheadAttention: attends to nothing and keeps no incremental state."""

    def forward(self, query, *args, **kwargs):
        return super().forward(query), None

    def _get_input_buffer(self, incremental_state):
        return {}


# What stands where something is still called; everything else is optional in fairseq's layers and becomes None.
_STAND_INS = {
    "self_attn": ZeroAttention,
    "self_attn_layer_norm": nn.Identity,
    "fc1": Zero,
    "fc2": nn.Identity,
    "final_layer_norm": nn.Identity,
}


def remove_sublayers(layer: nn.Module, names: Iterable[str]) -> None:
    """Make sub-layers of *layer* the identity; their parameters and norms are gone afterwards.

    Args:
        layer: a Transformer layer of fairseq, or a module with its attributes; changed in place.
        names: of ``self_attn``, ``encoder_attn`` and ``ffn``; those already gone may be among them.
    """
    for name in names:
        for attribute in _MODULES[name]:
            if getattr(layer, attribute, None) is not None:
                stand_in = _STAND_INS.get(attribute)
                setattr(layer, attribute, stand_in() if stand_in else None)


def attends_to_encoder(layer: nn.Module) -> bool:
    """Whether *layer* is a decoder layer that has its ``encoder_attn``."""
    return getattr(layer, "encoder_attn", None) is not None
