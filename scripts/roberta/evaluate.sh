#!/usr/bin/env bash
# Masked-LM loss of the pre-trained models on valid at several depths: work/roberta/result.{md,json,png}
#
#   bash scripts/roberta/evaluate.sh [NAME …]      (default: all runs that are trained)
#
# As a perplexity by masked piece and in bits, with the same masks for all. To fine-tune the models: scripts/glue/compare.sh.
#
#   DEPTHS="12 8 6 4"   layers to keep, evenly spaced (24 layers: "24 16 12 8")
#   OUT=work/roberta, SMOKE=1, GPUS   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

runs=$(printf '%s\n' $runs | grep -v '_short$' | xargs) # which the small runs go on from
trained 0 "$@"
for name in "${names[@]}"; do
    case $name in *_48) depths="48 32 24 16" ;; large) depths="24 16 12 8" ;; *) depths="12 8 6 4" ;; esac
    [ -z "$SMOKE" ] || depths="6 3"
    for depth in ${DEPTHS:-$depths}; do
        evaluate fairseq-validate "$name" checkpoint_best.pt "keep:$depth@every_other" --task layerdrop_masked_lm \
            --valid-subset valid --max-tokens 8192
    done
done
table "RoBERTa, masked-LM loss on valid" --metric masked-lm
