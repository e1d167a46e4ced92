#!/usr/bin/env bash
# Answer the questions of ELI5's test set at full and at pruned depths, and compare: work/eli5/result.{md,json,png}
#
#   bash scripts/eli5/evaluate.sh [NAME …]      (default: all runs that are trained)
#
# The checkpoint with the best validation loss (or ROUGE, see train.sh); beam 5, 150 to 200 pieces, no repeated 3-grams, as in the
# LayerDrop paper. ROUGE as in ELI5: F1 over stemmed words between spaces.
#
#   DEPTHS="6 4 3 2"   decoder layers to keep, evenly spaced
#   OUT=work/eli5, SMOKE=1, GPUS   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

trained 0 "$@"
depths=${DEPTHS:-6 4 3 2}
lengths=(--beam 5 --min-len 150 --max-len-b 200)
[ -z "$SMOKE" ] || { depths=${DEPTHS:-6 3} lengths=(--beam 2 --min-len 15 --max-len-b 20); }
for name in "${names[@]}"; do
    for depth in $depths; do
        evaluate fairseq-generate "$name" checkpoint_best.pt "decoder=keep:$depth@every_other" --task layerdrop_question_answering \
            --truncate-source --max-source-positions 4096 --max-target-positions 4096 "${lengths[@]}" --no-repeat-ngram-size 3 \
            --max-tokens 12000 --remove-bpe sentencepiece
    done
done
table "ELI5, test" --metric rouge-eli5 --reference "$out/text/reference.target"
