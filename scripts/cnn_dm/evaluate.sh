#!/usr/bin/env bash
# Summarise the test set of CNN/DailyMail at full and at pruned depths, and compare: work/cnn_dm/result.{md,json,png}
#
#   bash scripts/cnn_dm/evaluate.sh [NAME …]      (default: all runs that are trained)
#
# The checkpoint with the best validation loss (or ROUGE, see train.sh); beam 5, at least 50 pieces, no repeated 3-grams. ROUGE-1,
# -2, -L and summary-level -L (rougeLsum, which is what papers call ROUGE-L here), F1, stemmed.
#
#   DEPTHS="6 4 3 2"   decoder layers to keep, evenly spaced (8 layers: "8 6 4 2")
#   MIN_LEN=50         the paper tuned 40, 50 and 60
#   OUT=work/cnn_dm, SMOKE=1, GPUS   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

trained 0 "$@"
lengths=(--beam 5 --min-len "${MIN_LEN:-50}" --max-len-b 200)
[ -z "$SMOKE" ] || lengths=(--beam 2 --min-len "${MIN_LEN:-5}" --max-len-b 20)
for name in "${names[@]}"; do
    case $name in *_8) depths="8 4 6 2" ;; *) depths="6 3 4 2" ;; esac
    [ -z "$SMOKE" ] || depths=${depths:0:3}
    for depth in ${DEPTHS:-$depths}; do
        evaluate fairseq-generate "$name" checkpoint_best.pt "decoder=keep:$depth@every_other" --task layerdrop_summarization \
            --truncate-source --max-source-positions 1024 --max-target-positions 1024 "${lengths[@]}" --no-repeat-ngram-size 3 \
            --max-tokens 12000 --remove-bpe sentencepiece
    done
done
table "CNN/DailyMail, test" --metric rouge --reference "$out/text/reference.target"
