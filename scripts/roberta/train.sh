#!/usr/bin/env bash
# Pre-train a RoBERTa, or go on with it: bash scripts/roberta/train.sh [NAME] [SECTION.FIELD=VALUE …]
#
# NAME is a file of configs/roberta: small_layerdrop (the default) and small_baseline, an hour on a CPU core, or the paper's base,
# large, large_48. The small ones begin with 3,000 updates on blocks of 16 pieces, in OUT/NAME/short.
#
#   GPUS, UPDATE_FREQ, several machines   see train in scripts/recipe.sh
#   OUT=work/roberta, SMOKE=1             see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=small_layerdrop
smoke=(
    model.encoder_embed_dim=32 model.encoder_ffn_embed_dim=64 model.encoder_attention_heads=2 model.encoder_layers=6
    task.tokens_per_sample=64 dataset.max_tokens=512 optimization.update_freq='[1]' distributed_training.distributed_world_size=1
    optimization.max_update=20 lr_scheduler.total_num_update=20 lr_scheduler.warmup_updates=5
)
name=${1:-$default}
short=$out/$name/short
if [[ $name == small_* ]]; then
    updates=${SMOKE:+5}
    [ -f "$out/$name/checkpoint_last.pt" ] ||
        train "$name" "${@:2}" checkpoint.save_dir="$short" task.tokens_per_sample=16 \
            optimization.max_update="${updates:-3000}" lr_scheduler.total_num_update=10000
    set -- "$name" checkpoint.finetune_from_model="$short/checkpoint_last.pt" "${@:2}"
fi
train "$@"
