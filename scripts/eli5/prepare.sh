#!/usr/bin/env bash
# ELI5 with its ten multitask pairs -> work/eli5/data-bin: joint SentencePiece BPE of 40,000 pieces.
#
#   RAW=DIR bash scripts/eli5/prepare.sh      takes explainlikeimfive_train.json, …_valid.json and …_test.json in DIR, or train.json,
#                                             valid.json and test.json: lists of {"id", "question", "document", "answer"}
#
# The data can't be passed on; https://github.com/facebookresearch/ELI5 rebuilds it from Reddit and CommonCrawl.
#
#   VOCABULARY=40000           BPE pieces
#   OUT=work/eli5, SMOKE=1     see scripts/recipe.sh; without RAW, SMOKE=1 makes up its data
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

arguments=(--vocabulary "${VOCABULARY:-40000}")
if [ -n "$SMOKE" ]; then
    arguments=(--vocabulary "${VOCABULARY:-500}" --items 20)
    [ -n "$raw" ] || { raw=$out/raw; make "$raw" python -m fairseq_layerdrop.corpora.look_alikes eli5 {}; }
elif [ -z "$raw" ]; then
    die "ELI5 can't be downloaded: rebuild it with https://github.com/facebookresearch/ELI5 and give its folder as RAW"
fi
make "$out/text" python -m fairseq_layerdrop.corpora.eli5 "$raw" {} "${arguments[@]}"
FROM=$out/text make "$out/data-bin" preprocess {} --source-lang source --target-lang target --joined-dictionary \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
say "$out/data-bin is ready; next: $(step train.sh)"
