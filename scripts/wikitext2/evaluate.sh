#!/usr/bin/env bash
# Perplexity of the trained models on WikiText-2's test set at several depths: work/wikitext2/result.{md,json,png}
#
#   bash scripts/wikitext2/evaluate.sh [NAME …]      (default: all runs that are trained)
#
# Blocks of 256 pieces, of which the last 128 are scored with the others as context. By word, line ends included, perplexities
# compare with those of models with other subwords.
#
#   OUT=work/wikitext2, GPUS   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

trained 0 "$@"
words=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["test"])' "$out/text/words.json")
for name in "${names[@]}"; do
    for depth in 12 10 8 6 4 3; do
        evaluate fairseq-eval-lm "$name" checkpoint_best.pt "keep:$depth@every_other" --task layerdrop_language_modeling \
            --gen-subset test --sample-break-mode none --tokens-per-sample 256 --max-tokens 4096 --context-window 128
    done
done
table "WikiText-2, test" --metric perplexity --words "$words"
