#!/usr/bin/env bash
# Train a WMT16 English-German model, or go on with it: bash scripts/wmt16_en_de/train.sh [NAME] [SECTION.FIELD=VALUE …]
#
# NAME is a file of configs/wmt16_en_de: layerdrop_6_6 (the default), layerdrop_12_6, teacher_6_6, baseline_6_6, baseline_12_6.
#
#   GPUS, UPDATE_FREQ, several machines   see train in scripts/recipe.sh
#   OUT=work/wmt16_en_de, SMOKE=1         see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=layerdrop_6_6
smoke=(
    model.{en,de}coder_embed_dim=64 model.{en,de}coder_ffn_embed_dim=128 model.{en,de}coder_attention_heads=4
    dataset.max_tokens=1000 optimization.update_freq='[2]' distributed_training.distributed_world_size=1
    dataset.required_batch_size_multiple=1
    optimization.max_epoch=3 lr_scheduler.warmup_updates=20 lr_scheduler.lr_period_updates=200
)
train "$@"
