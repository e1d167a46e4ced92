"""Layers that can be dropped while training."""

from .draw import draw_skips
from .layer_drop import LayerDropModuleList
from .zero_grad import identity_with_zero_grad

__all__ = ["LayerDropModuleList", "draw_skips", "identity_with_zero_grad"]
