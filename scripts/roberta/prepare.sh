#!/usr/bin/env bash
# Text to pre-train RoBERTa on -> work/roberta/data-bin.
#
#   RAW=DIR bash scripts/roberta/prepare.sh              SentencePiece BPE of 5,000 pieces
#   RAW=DIR GPT2=DIR bash scripts/roberta/prepare.sh     GPT-2's byte-level BPE, as the paper's
#
# RAW holds wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens of WikiText-2 or Wikitext-103, or any train.txt, valid.txt
# and test.txt, perhaps gzipped. GPT2 holds encoder.json, vocab.bpe and dict.txt of
# https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe/.
#
#   VOCABULARY=5000    number of BPE pieces
#   OUT=work/roberta, SMOKE=1   see scripts/recipe.sh; without RAW, SMOKE=1 makes up its data
set -euo pipefail
gpt2=${GPT2:+$(realpath -m -- "$GPT2")}
source "$(dirname "$0")/../recipe.sh"

arguments=(--pieces "${VOCABULARY:-5000}")
dictionary=()
if [ -n "$SMOKE" ]; then
    arguments=(--pieces "${VOCABULARY:-300}" --items 400)
    [ -n "$raw" ] || { raw=$out/raw; make "$raw" python -m fairseq_layerdrop.corpora.look_alikes wikitext103 {}; }
fi
if [ -n "$gpt2" ]; then
    [ -f "$gpt2/dict.txt" ] || die "no $gpt2/dict.txt; get it from https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe/"
    arguments=(--gpt2 "$gpt2" "${arguments[@]:2}")
    dictionary=(--srcdict "$gpt2/dict.txt")
fi
[ -d "$raw" ] || die "set RAW to the folder with the text, for instance wiki.train.tokens"
make "$out/text" python -m fairseq_layerdrop.corpora.wikitext "$raw" {} "${arguments[@]}"
FROM=$out/text make "$out/data-bin" preprocess {} --only-source "${dictionary[@]}" \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
say "$out/data-bin is ready; next: $(step train.sh)"
