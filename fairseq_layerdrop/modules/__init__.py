"""Layers that can be dropped while training, and sub-layers that can be taken out."""

from .draw import draw_skips
from .layer_drop import LayerDropModuleList
from .sub_layers import attends_to_encoder, remove_sublayers
from .zero_grad import identity_with_zero_grad

__all__ = [
    "LayerDropModuleList",
    "attends_to_encoder",
    "draw_skips",
    "identity_with_zero_grad",
    "remove_sublayers",
]
