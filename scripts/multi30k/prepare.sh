#!/usr/bin/env bash
# Multi30k English-German -> work/multi30k/data-bin: joint SentencePiece BPE of 6,000 pieces, binarised.
#
#   MULTI30K_DIR=DIR bash scripts/multi30k/prepare.sh
#
# DIR holds train.{en,de}, val.{en,de} and test_2016_flickr.{en,de}: raw, untokenised text, one sentence a line, as in
# https://github.com/multi30k/dataset (data/task1/raw, unpacked).
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup.sh

out=work/multi30k
python -m fairseq_layerdrop.corpora.multi30k "${MULTI30K_DIR:?set it to the folder with the raw text, see above}" "$out/text"
rm -rf "$out/data-bin"
fairseq-preprocess --source-lang en --target-lang de --joined-dictionary --workers 2 --destdir "$out/data-bin" \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
echo "multi30k: $out/data-bin is ready; next: bash scripts/multi30k/train.sh layerdrop"
