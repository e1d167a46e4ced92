#!/usr/bin/env bash
# Wikitext-103, word level -> work/wikitext103/data-bin; the dictionary has 267,744 symbols.
#
#   bash scripts/wikitext103/prepare.sh      downloads wikitext-103-v1.zip
#   RAW=DIR bash …                           takes wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens in DIR
#
#   URL=…   where to download from
#   OUT=work/wikitext103, SMOKE=1   see scripts/recipe.sh; without RAW, SMOKE=1 makes up its data
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

arguments=()
if [ -n "$SMOKE" ]; then
    arguments=(--items 1000)
    [ -n "$raw" ] || { raw=$out/raw; make "$raw" python -m fairseq_layerdrop.corpora.look_alikes wikitext103 {}; }
elif [ -z "$raw" ]; then
    download "${URL:-https://wikitext.smerity.com/wikitext-103-v1.zip}" "$out/wikitext-103-v1.zip" 9ddaacaf6af0710eda8c456decff7832
    make "$out/raw" python -m zipfile -e "$out/wikitext-103-v1.zip" {}
    raw=$out/raw/wikitext-103
fi
make "$out/text" python -m fairseq_layerdrop.corpora.wikitext "$raw" {} "${arguments[@]}"
FROM=$out/text make "$out/data-bin" preprocess {} --only-source \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
say "$out/data-bin is ready; next: $(step train.sh)"
