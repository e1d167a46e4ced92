#!/usr/bin/env bash
# Multi30k English-German -> work/multi30k/data-bin: joint SentencePiece BPE of 6,000 pieces, binarised.
#
#   RAW=DIR bash scripts/multi30k/prepare.sh
#
# DIR holds train.{en,de}, val.{en,de} and test_2016_flickr.{en,de}: raw, untokenised text, one sentence a line, as in
# https://github.com/multi30k/dataset (data/task1/raw, unpacked).
#
#   VOCABULARY=6000     number of BPE pieces
#   OUT=work/multi30k   where everything goes, for train.sh and evaluate.sh too
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

[ -d "$raw" ] || die "set RAW to the folder with the raw text, for instance train.en"
make "$out/text" python -m fairseq_layerdrop.corpora.multi30k "$raw" {} --vocabulary "${VOCABULARY:-6000}"
FROM=$out/text make "$out/data-bin" preprocess {} --source-lang en --target-lang de --joined-dictionary \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
say "$out/data-bin is ready; next: $(step train.sh)"
