#!/usr/bin/env bash
# Translate newstest2014 at full and at pruned depths, score, and compare: work/wmt16_en_de/result.{md,json,png}
#
#   bash scripts/wmt16_en_de/evaluate.sh [NAME …]      (default: all runs that are trained)
#
# The last ten epochs are averaged; beam 8 and length penalty 0.6 as in the paper. The metric is the paper's, tokenised BLEU with
# compounds split, for the preprocessed archive, and sacreBLEU for raw text.
#
#   DEPTHS="6 4 3 2"   decoder layers to keep, evenly spaced
#   AVERAGE=10         epochs to average
#   OUT=work/wmt16_en_de, SMOKE=1, GPUS   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

depths=${DEPTHS:-6 4 3 2} beam=8 epochs=${AVERAGE:-10}
[ -z "$SMOKE" ] || { depths=${DEPTHS:-6 3} beam=2 epochs=${AVERAGE:-2}; }
trained "$epochs" "$@"
if [ -f "$out/text/spm.model" ]; then
    bpe=sentencepiece scoring=(--metric sacrebleu --reference "$out/text/reference.de")
else
    bpe=subword_nmt scoring=(--metric compound-bleu)
fi
for name in "${names[@]}"; do
    average "$name" "$epochs"
    for depth in $depths; do
        evaluate fairseq-generate "$name" "$checkpoint" "decoder=keep:$depth@every_other" --task layerdrop_translation \
            --beam "$beam" --lenpen 0.6 --max-len-a 1 --max-len-b 50 --max-tokens 4000 --remove-bpe "$bpe" ${SMOKE:+--max-len-b 10}
    done
done
table "WMT16 English to German, newstest2014" "${scoring[@]}"
