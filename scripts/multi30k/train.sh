#!/usr/bin/env bash
# Train a Multi30k model, or go on with it: bash scripts/multi30k/train.sh layerdrop|baseline|teacher|… [SECTION.FIELD=VALUE …]
#
#   GPUS                         see train in scripts/recipe.sh
#   OUT=work/multi30k, SMOKE=1   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=layerdrop
smoke=(
    model.{en,de}coder_embed_dim=64 model.{en,de}coder_ffn_embed_dim=128 model.{en,de}coder_attention_heads=4
    optimization.max_update=30 lr_scheduler.warmup_updates=10
)
train "$@"
