#!/usr/bin/env bash
# Sets everything up, then shows the main job: trains one Transformer with LayerDrop and one without on a small
# English-German corpus of numbers, dates and prices in words, prunes the decoders of both at inference, and compares.
# Takes about four minutes on two cores after installation. Run again, it reuses the corpus and the trained models in OUT,
# and trains on where UPDATES is higher than before; remove OUT to start afresh.
#
#   UPDATES=1000   training updates of each model
#   OUT=work/quickstart   where everything goes
#   PAIRS=40000   sentence pairs to train on
#   DEPTHS="6 5 4 3 2 1"   decoder depths to translate with
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh quickstart

out=${OUT:-work/quickstart}
updates=${UPDATES:-1000}
depths=${DEPTHS:-6 5 4 3 2 1}
declare -A rate=([layerdrop]=0.3 [plain]=0)
mkdir -p "$out"
export OMP_NUM_THREADS=1 # the two models share the machine

if [ ! -d "$out/data-bin" ]; then
    echo "quickstart: making the corpus"
    python -m fairseq_layerdrop.corpora.number_words "$out/text" --train "${PAIRS:-40000}"
    rm -rf "$out/data-bin.part"
    fairseq-preprocess --source-lang en --target-lang de --joined-dictionary --destdir "$out/data-bin.part" \
        --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test" > "$out/preprocess.log" 2>&1
    mv "$out/data-bin.part" "$out/data-bin"
fi

train() {
    [ -f "$out/$1/checkpoint_last.pt" ] && fairseq-layerdrop ended "$out/$1/checkpoint_last.pt" --max-update "$updates" && return
    fairseq-train "$out/data-bin" --user-dir fairseq_layerdrop --task layerdrop_translation --arch layerdrop_transformer \
        --encoder-layers 2 --decoder-layers 6 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 \
        --encoder-attention-heads 4 --decoder-attention-heads 4 --encoder-normalize-before --decoder-normalize-before \
        --share-all-embeddings --decoder-layerdrop "${rate[$1]}" --dropout 0 \
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' \
        --clip-norm 1.0 --lr 0.003 --lr-scheduler polynomial_decay --warmup-updates 200 --total-num-update "$updates" \
        --max-tokens 1500 --max-update "$updates" \
        --cpu --num-workers 0 --save-dir "$out/$1" --no-epoch-checkpoints --save-interval-updates 100 --keep-interval-updates 1 \
        --disable-validation --log-format simple --log-interval 50
}

reached() { awk -F num_updates= 'NF > 1 { updates = $2 + 0 } END { print updates + 0 }' "$out/train-$1.log"; }

tell_updates() {
    while sleep 30; do
        echo "quickstart: layerdrop $(reached layerdrop), plain $(reached plain) of $updates updates"
    done
}

generate() {
    rm -rf "$out/logs/$1"
    mkdir -p "$out/logs/$1"
    for keep in $depths; do
        local log="$out/logs/$1/decoder-$keep.log"
        fairseq-generate "$out/data-bin" --user-dir fairseq_layerdrop --task layerdrop_translation \
            --path "$out/$1/checkpoint_last.pt" --prune-layers "decoder=keep:$keep@every_other" \
            --cpu --beam 4 --max-len-b 60 --max-tokens 3000 --required-batch-size-multiple 1 --remove-bpe sentencepiece > "$log" 2>&1 ||
            { tail -n 3 "$log"; exit 1; }
    done
}

# Run a step for both models at once; a failure of either ends the script, and its end ends them.
set -m # a process group each
both() {
    echo "quickstart: $2 (logs: $out/$1-layerdrop.log, $out/$1-plain.log)"
    "$1" layerdrop >> "$out/$1-layerdrop.log" 2>&1 &
    local layerdrop=$!
    "$1" plain >> "$out/$1-plain.log" 2>&1 &
    local plain=$!
    trap "kill -- -$layerdrop -$plain ${teller:+-$teller} 2> /dev/null || true" EXIT
    for _ in 1 2; do
        wait -n || { tail -n 3 "$out/$1-layerdrop.log" "$out/$1-plain.log" >&2; exit 1; }
    done
    trap - EXIT
}

tell_updates &
teller=$!
both train "training both models for $updates updates"
kill -- -$teller
wait $teller 2> /dev/null || true
teller=
both generate "translating the test set at decoder depths $depths"

python -m fairseq_layerdrop.reports.depth_table --metric sacrebleu --reference "$out/text/reference.de" --out "$out/result" \
    --title "numbers, dates and prices: English to German" "$out/logs/layerdrop" "$out/logs/plain"
