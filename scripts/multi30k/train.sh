#!/usr/bin/env bash
# Train a Multi30k model, or go on with it: bash scripts/multi30k/train.sh layerdrop|baseline [SECTION.FIELD=VALUE …]
#
#   GPUS                see train in scripts/recipe.sh
#   OUT=work/multi30k   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

default=layerdrop
smoke=()
train "$@"
