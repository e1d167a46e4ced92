#!/usr/bin/env bash
# Train a WikiText-2 language model, or go on with it: bash scripts/wikitext2/train.sh layerdrop|baseline [SECTION.FIELD=VALUE …]
#
#   GPUS                see train in scripts/recipe.sh
#   OUT=work/wikitext2   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=layerdrop
smoke=()
train "$@"
