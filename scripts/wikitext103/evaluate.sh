#!/usr/bin/env bash
# Perplexity on the test set of Wikitext-103 at full and at pruned depths: work/wikitext103/result.{md,json,png}
#
#   bash scripts/wikitext103/evaluate.sh [NAME …]      (default: all runs that are trained)
#
# The checkpoint with the best validation loss; blocks of 3,072 tokens that end with sentences, of which the last 512 are scored
# with the others as context. Perplexity is by token, which is a word or a line end.
#
#   DEPTHS="16 12 8 4"   layers to keep, evenly spaced (40 layers: "40 30 20 10")
#   SUBSET=test          or valid, on which the paper's Table 8 is
#   OUT=work/wikitext103, SMOKE=1, GPUS   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

trained 0 "$@"
blocks=(--sample-break-mode complete --tokens-per-sample 3072 --max-tokens 3072 --context-window 2560)
[ -z "$SMOKE" ] || blocks=(--sample-break-mode none --tokens-per-sample 64 --max-tokens 2048 --context-window 32)
for name in "${names[@]}"; do
    case $name in *_40) depths="40 20 30 10" ;; *) depths="16 8 12 4" ;; esac
    [ -z "$SMOKE" ] || depths=${depths:0:5}
    for depth in ${DEPTHS:-$depths}; do
        evaluate fairseq-eval-lm "$name" checkpoint_best.pt "keep:$depth@every_other" --task layerdrop_language_modeling \
            --gen-subset "${SUBSET:-test}" "${blocks[@]}" --softmax-batch 1024
    done
done
[ "${SUBSET:-test}" = test ] || paper= # its Table 2 is of test
table "Wikitext-103, ${SUBSET:-test}" --metric perplexity
