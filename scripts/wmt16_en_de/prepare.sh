#!/usr/bin/env bash
# WMT16 English-German -> work/wmt16_en_de/data-bin.
#
#   bash scripts/wmt16_en_de/prepare.sh              downloads Google's preprocessed archive (tokenised, BPE), as fairseq's
#                                                    scaling_nmt; the dictionary has 32,768 symbols
#   RAW=wmt16_en_de.tar.gz bash …                    takes the archive, or the folder it unpacks to
#   RAW=DIR bash …                                   takes raw text, a sentence a line: train, newstest2013 and newstest2014,
#                                                    or train, valid and test (.en and .de); SentencePiece BPE
#
#   VOCABULARY=32000   BPE pieces for raw text
#   OUT=work/wmt16_en_de, SMOKE=1   see scripts/recipe.sh; without RAW, SMOKE=1 makes up its data
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"

arguments=(--vocabulary "${VOCABULARY:-32000}")
if [ -n "$SMOKE" ]; then
    arguments=(--vocabulary "${VOCABULARY:-500}" --items 1500)
    [ -n "$raw" ] || { raw=$out/raw; make "$raw" python -m fairseq_layerdrop.corpora.look_alikes wmt16_en_de {}; }
elif [ -z "$raw" ]; then
    raw=$out/wmt16_en_de.tar.gz
    download 'https://drive.google.com/uc?id=0B_bZck-ksdkpM25jRUN2X2UxMm8' "$raw"
fi
make "$out/text" python -m fairseq_layerdrop.corpora.wmt16 "$raw" {} "${arguments[@]}"
FROM=$out/text make "$out/data-bin" preprocess {} --source-lang en --target-lang de --joined-dictionary \
    --nwordssrc 32768 --nwordstgt 32768 \
    --trainpref "$out/text/train" --validpref "$out/text/valid" --testpref "$out/text/test"
say "$out/data-bin is ready; next: $(step train.sh)"
