#!/usr/bin/env bash
# Multi30k English-German -> work/multi30k/data-bin: joint SentencePiece BPE of 6,000 pieces, binarised.
#
#   MULTI30K_DIR=DIR bash scripts/multi30k/prepare.sh
#
# DIR holds train.{en,de}, val.{en,de} and test_2016_flickr.{en,de}: raw, untokenised text, one sentence a line, as in
# https://github.com/multi30k/dataset (data/task1/raw, unpacked).
#
#   OUT=work/multi30k   where everything goes, for train.sh and evaluate.sh too
#   VOCABULARY=6000     number of BPE pieces
set -euo pipefail
[ -d "${MULTI30K_DIR:-}" ] || { echo "multi30k: set MULTI30K_DIR to the folder with the raw text, for instance train.en" >&2; exit 1; }
raw=$(realpath "$MULTI30K_DIR")
cd "$(dirname "$0")/../.."
source scripts/setup.sh

out=${OUT:-work/multi30k}
python -m fairseq_layerdrop.corpora.multi30k "$raw" "$out/text" --vocabulary "${VOCABULARY:-6000}"
rm -rf "$out/data-bin" "$out/data-bin.part"
fairseq-preprocess --source-lang en --target-lang de --joined-dictionary --workers 2 --destdir "$out/data-bin.part" \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
mv "$out/data-bin.part" "$out/data-bin"
echo "multi30k: $out/data-bin is ready; next: bash scripts/multi30k/train.sh layerdrop"
