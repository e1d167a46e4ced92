"""Layers that can be dropped while training, and sub-layers and heads that can be taken out."""

from .attention import StepAttention, shared_rows
from .distillation import adaptive_distillation_loss, distillation_loss
from .draw import draw_one, draw_skips
from .importance import LayerImportance, keep_rates
from .layer_drop import DropRates, LayerDropModuleList, Skips
from .schedules import DEPTH_SCHEDULES, TIME_SCHEDULES, depth_factors, time_factor
from .scripting import ScriptedAsFairseq
from .step_layer import StepDecoder, StepLayer
from .sub_layers import remove_heads, remove_sublayers, rows_of_heads, sub_layers_of, without
from .zero_grad import identity_with_zero_grad

__all__ = [
    "DEPTH_SCHEDULES",
    "TIME_SCHEDULES",
    "DropRates",
    "LayerDropModuleList",
    "LayerImportance",
    "ScriptedAsFairseq",
    "Skips",
    "StepAttention",
    "StepDecoder",
    "StepLayer",
    "adaptive_distillation_loss",
    "depth_factors",
    "distillation_loss",
    "draw_one",
    "draw_skips",
    "identity_with_zero_grad",
    "keep_rates",
    "remove_heads",
    "remove_sublayers",
    "rows_of_heads",
    "shared_rows",
    "sub_layers_of",
    "time_factor",
    "without",
]
