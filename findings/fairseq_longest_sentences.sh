#!/usr/bin/env bash
# fairseq-fixed 0.12.3.1 (fairseq's main branch): how many sentences fairseq-generate translates.
#
# Expected: all sentences of the test set are translated.
# Behaviour: the surplus over a multiple of --required-batch-size-multiple (8 by default) is left out without a word,
# and as batches are made in the order of length, it is the longest sentences that are missing from the score.
# Output seen: 11 sentences of 1 to 11 words, 8 translated, missing those of 9, 10 and 11 words
#
# Installs into a temporary folder, and compiles for some minutes where pip hasn't got the wheel; exit status 1 where
# fairseq behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==1.26.4 cython==3.3.1 setuptools==84.2.1 wheel==0.48.0
pip --no-build-isolation fairseq-fixed==0.12.3.1
cd "$folder"
export PATH="$folder/venv/bin:$PATH" TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 # fairseq's own checkpoints need it
for number in $(seq 11); do
    seq -s ' ' "$number"
done | tee test.a > test.b
cp test.a train.a && cp test.b train.b
{
    fairseq-preprocess --source-lang a --target-lang b --trainpref train --testpref test --destdir data --joined-dictionary
    fairseq-train data --arch transformer_tiny --optimizer adam --lr 0.001 --max-tokens 100 --max-update 1 --cpu \
        --disable-validation --save-dir model
    fairseq-generate data --path model/checkpoint_last.pt --cpu --max-len-b 3
} > log 2>&1 || { tail -n 3 log >&2; exit 1; }
translated=$(grep -c '^H-' log)
missing=$(comm -23 <(seq 0 10 | sort) <(sed -n 's/^H-\([0-9]*\)\t.*/\1/p' log | sort) | sort -n | xargs)
echo "11 sentences of 1 to 11 words, $translated translated, missing numbers (from 0): $missing"
[ "$translated" = 8 ] && [ "$missing" = "8 9 10" ] || { echo "fairseq behaves otherwise now" >&2; exit 1; }
