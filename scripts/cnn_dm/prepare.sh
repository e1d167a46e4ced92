#!/usr/bin/env bash
# CNN/DailyMail, not anonymised, first 400 words -> work/cnn_dm/data-bin: joint SentencePiece BPE of 32,000 pieces.
#
#   bash scripts/cnn_dm/prepare.sh      downloads the stories and the lists of the splits
#   RAW=DIR bash …                      takes cnn/stories, dailymail/stories and url_lists in DIR, or train.jsonl, valid.jsonl and
#                                       test.jsonl with {"article", "highlights"} a line
#
#   VOCABULARY=32000, WORDS=400   BPE pieces; words of an article
#   OUT=work/cnn_dm, SMOKE=1      see scripts/recipe.sh; without RAW, SMOKE=1 makes up its data
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

arguments=(--vocabulary "${VOCABULARY:-32000}" --words "${WORDS:-400}")
if [ -n "$SMOKE" ]; then
    arguments=(--vocabulary "${VOCABULARY:-500}" --words "${WORDS:-40}" --items 200)
    [ -n "$raw" ] || { raw=$out/raw; make "$raw" python -m fairseq_layerdrop.corpora.look_alikes cnn_dm {}; }
elif [ -z "$raw" ]; then
    raw=$out/raw
    download 'https://drive.google.com/uc?id=0BwmD_VLjROrfTHk4NFg2SndKcjQ' "$out/cnn_stories.tgz"
    download 'https://drive.google.com/uc?id=0BwmD_VLjROrfM1BxdkxVaTY2bWs' "$out/dailymail_stories.tgz"
    for split in train val test; do
        download "https://raw.githubusercontent.com/abisee/cnn-dailymail/master/url_lists/all_$split.txt" "$raw/url_lists/all_$split.txt"
    done
    for site in cnn dailymail; do
        make "$raw/$site" tar --extract --file "$out/${site}_stories.tgz" --directory {} --strip-components 1
    done
fi
make "$out/text" python -m fairseq_layerdrop.corpora.cnn_dm "$raw" {} "${arguments[@]}"
FROM=$out/text make "$out/data-bin" preprocess {} --source-lang source --target-lang target --joined-dictionary \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
say "$out/data-bin is ready; next: $(step train.sh)"
