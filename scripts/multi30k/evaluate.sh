#!/usr/bin/env bash
# Translate the Multi30k test set with the trained models at several depths, and compare: work/multi30k/result.{md,json,png}
#
#   bash scripts/multi30k/evaluate.sh [NAME …]      (default: all runs that are trained)
#
#   SPECS="…"   what to give to --prune-layers, one after the other
#   OUT=work/multi30k, GPUS   see scripts/recipe.sh
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

specs=${SPECS:-$(echo decoder=keep:{6,4,3,2}@every_other keep:3@every_other)}
trained 0 "$@"
for name in "${names[@]}"; do
    for spec in $specs; do
        evaluate fairseq-generate "$name" checkpoint_best.pt "$spec" --task layerdrop_translation \
            --beam 4 --max-len-a 1.5 --max-len-b 20 --batch-size 128 --remove-bpe sentencepiece
    done
done
table "Multi30k, English to German, test_2016_flickr" --metric sacrebleu --reference "$out/text/reference.de"
