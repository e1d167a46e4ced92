#!/usr/bin/env bash
# Train a Wikitext-103 language model, or go on with it: bash scripts/wikitext103/train.sh [NAME] [SECTION.FIELD=VALUE …]
#
# NAME is a file of configs/wikitext103: layerdrop_16 (the default), baseline_16, teacher_16, layerdrop_40.
#
#   GPUS, UPDATE_FREQ, several machines   see train in scripts/recipe.sh
#   OUT=work/wikitext103, SMOKE=1         see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=layerdrop_16
smoke=(
    model.decoder_{embed_dim,input_dim,output_dim}=64 model.decoder_ffn_embed_dim=128 model.decoder_attention_heads=4
    model.adaptive_{input,softmax}_cutoff=20,60
    task.tokens_per_sample=64 dataset.max_tokens=256 optimization.update_freq='[2]' distributed_training.distributed_world_size=1
    dataset.required_batch_size_multiple=1
    optimization.max_update=60 lr_scheduler.warmup_updates=20 optimization.lr='[0.5]'
)
train "$@"
