#!/usr/bin/env bash
# WikiText-2 -> work/wikitext2/data-bin: SentencePiece BPE of 5,000 pieces, binarised.
#
#   RAW=DIR bash scripts/wikitext2/prepare.sh
#
# DIR holds wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens, or train.txt, valid.txt and test.txt, perhaps gzipped.
#
#   VOCABULARY=5000      number of BPE pieces
#   OUT=work/wikitext2   where everything goes, for train.sh and evaluate.sh too
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

[ -d "$raw" ] || die "set RAW to the folder with the text, for instance wiki.train.tokens"
make "$out/text" python -m fairseq_layerdrop.corpora.wikitext "$raw" {} --pieces "${VOCABULARY:-5000}"
FROM=$out/text make "$out/data-bin" preprocess {} --only-source \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
say "$out/data-bin is ready; next: $(step train.sh)"
