#!/usr/bin/env bash
# Pre-train a RoBERTa, or go on with it: bash scripts/roberta/train.sh [NAME] [SECTION.FIELD=VALUE …]
#
# NAME is a file of configs/roberta: the paper's base, large or large_48, teacher_base, or, in an hour on a CPU core together,
# small_layerdrop_short and then small_layerdrop, which goes on from it (default: both); small_baseline likewise.
#
#   GPUS, UPDATE_FREQ, several machines   see train in scripts/recipe.sh
#   OUT=work/roberta, SMOKE=1             see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

smoke=(
    model.encoder_embed_dim=32 model.encoder_ffn_embed_dim=64 model.encoder_attention_heads=2 model.encoder_layers=6
    task.tokens_per_sample=64 dataset.max_tokens=512 optimization.update_freq='[1]' distributed_training.distributed_world_size=1
    optimization.max_update=20 lr_scheduler.total_num_update=20 lr_scheduler.warmup_updates=5
)

# short NAME [SECTION.FIELD=VALUE …]: the first part of a small run, on short blocks.
short() { train "$1" ${SMOKE:+task.tokens_per_sample=16 optimization.max_update=5} "${@:2}"; }

name=${1:-small_layerdrop} first=${1:-small_layerdrop}_short
if [[ $name == small_*_short ]]; then
    short "$@"
elif [ -f "configs/roberta/$first.yaml" ]; then
    if [ -d "$out/data-bin" ] && [ ! -f "$out/$name/checkpoint_last.pt" ]; then
        [ $# -gt 0 ] || short "$first"
        ended "$out/$first/checkpoint_last.pt" || die "$name goes on from $first; first: $(step train.sh "$first")"
    fi
    train "$name" checkpoint.finetune_from_model="$out/$first/checkpoint_last.pt" "${@:2}"
else
    train "$@"
fi
