#!/usr/bin/env bash
# Translate the Multi30k test set with the trained models at several depths, and compare: work/multi30k/result.{md,json,png}
#
#   bash scripts/multi30k/evaluate.sh [layerdrop] [baseline]      (default: both)
#
#   OUT=work/multi30k   where train.sh put the models
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup.sh

out=${OUT:-work/multi30k}
[ $# -gt 0 ] || set -- layerdrop baseline
folders=()
for name in "$@"; do
    [ -f "$out/$name/checkpoint_best.pt" ] || { echo "multi30k: no $out/$name/checkpoint_best.pt; first: bash scripts/multi30k/train.sh $name" >&2; exit 1; }
    rm -rf "$out/logs/$name"
    mkdir -p "$out/logs/$name"
    folders+=("$out/logs/$name")
    for spec in \
        decoder=keep:6@every_other \
        decoder=keep:4@every_other \
        decoder=keep:3@every_other \
        decoder=keep:2@every_other \
        keep:3@every_other; do
        echo "multi30k: $name, $spec"
        log="$out/logs/$name/${spec//[^a-z0-9]/-}.log"
        fairseq-generate "$out/data-bin" --user-dir fairseq_layerdrop --task layerdrop_translation \
            --path "$out/$name/checkpoint_best.pt" --prune-layers "$spec" --cpu --beam 4 --max-len-a 1.5 --max-len-b 20 \
            --batch-size 128 --required-batch-size-multiple 1 --remove-bpe sentencepiece > "$log" 2>&1 ||
            { tail -n 3 "$log" >&2; exit 1; }
    done
done
python -m fairseq_layerdrop.evaluation.depth_table --reference "$out/text/reference.de" --out "$out/result" \
    --title "Multi30k, English to German, test_2016_flickr" "${folders[@]}"
