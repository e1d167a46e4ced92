#!/usr/bin/env bash
# Train an ELI5 model, or go on with it: bash scripts/eli5/train.sh [NAME] [SECTION.FIELD=VALUE …]
#
# NAME is a file of configs/eli5: layerdrop_6_6 (the default). With task.eval_rouge=true ROUGE is measured at each validation, and
# with checkpoint.best_checkpoint_metric=rougeL checkpoint.maximize_best_checkpoint_metric=true the best checkpoint is the best by it.
#
#   GPUS, UPDATE_FREQ, several machines   see train in scripts/recipe.sh
#   OUT=work/eli5, SMOKE=1                see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=layerdrop_6_6
smoke=(
    model.{en,de}coder_embed_dim=64 model.{en,de}coder_ffn_embed_dim=128 model.{en,de}coder_attention_heads=4
    optimization.update_freq='[2]' distributed_training.distributed_world_size=1
    dataset.required_batch_size_multiple=1
    optimization.max_update=4 lr_scheduler.warmup_updates=10 optimization.lr='[0.001]'
)
train "$@"
