#!/usr/bin/env bash
# Train a WikiText-2 model, or go on with it: bash scripts/wikitext2/train.sh layerdrop|baseline|teacher|… [SECTION.FIELD=VALUE …]
#
#   GPUS                         see train in scripts/recipe.sh
#   OUT=work/wikitext2, SMOKE=1   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=layerdrop
smoke=(
    model.decoder_{embed_dim,input_dim,output_dim}=32 model.decoder_ffn_embed_dim=64
    optimization.max_update=30 lr_scheduler.warmup_updates=10
)
train "$@"
