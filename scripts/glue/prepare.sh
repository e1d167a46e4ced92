#!/usr/bin/env bash
# Tasks of GLUE -> work/glue/TASK/data-bin, in the subwords of a pre-trained model.
#
#   RAW=DIR bash scripts/glue/prepare.sh TASK …      CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE
#
# DIR holds a folder a task, with train.tsv and dev.tsv as https://gluebenchmark.com/tasks offers them. MRPC's, which are to be
# made from Microsoft's files, have the columns that the benchmark's download script writes: Quality, #1 ID, #2 ID, #1 String,
# #2 String.
#
#   PIECES=FILE      SentencePiece model of the pre-training (default: work/roberta/text/spm.model), or the folder with
#                    GPT-2's encoder.json and vocab.bpe, or the folder that fairseq-layerdrop import wrote
#   DICT=FILE        dictionary of the pre-training (default: work/roberta/data-bin/dict.txt, or that of the imported folder)
#   ITEMS=N          take the first N examples of train.tsv and of dev.tsv
#   OUT=work/glue, SMOKE=1   see scripts/recipe.sh; without RAW, SMOKE=1 makes up SST-2 and MRPC
set -euo pipefail
pieces=${PIECES:+$(realpath -m -- "$PIECES")}
dictionary=${DICT:+$(realpath -m -- "$DICT")}
source "$(dirname "$0")/../recipe.sh"

pieces=${pieces:-work/roberta${SMOKE:+-smoke}/text/spm.model}
[ ! -f "$pieces/tokenizer.json" ] || dictionary=${dictionary:-$pieces/dict.txt}
dictionary=${dictionary:-work/roberta${SMOKE:+-smoke}/data-bin/dict.txt}
[ $# -gt 0 ] || die "name the tasks: $runs"
for task in "$@"; do
    [ -f "configs/glue/$task.yaml" ] || die "GLUE has no task $task; its tasks are $runs"
done
if [ -n "$SMOKE" ] && [ -z "$raw" ]; then
    raw=$out/raw
    make "$raw" python -m fairseq_layerdrop.corpora.look_alikes glue {}
fi
[ -d "$raw" ] || die "set RAW to the folder of the tasks, in which ${1} is one"
[ -f "$dictionary" ] || die "no $dictionary; set DICT to the dict.txt of the pre-training"
if [ -f "$pieces/tokenizer.json" ]; then
    encoder=(--imported "$pieces")
    key=$(cat "$pieces/tokenizer.json" "$dictionary" 2> /dev/null | cksum)
elif [ -d "$pieces" ]; then
    encoder=(--gpt2 "$pieces")
    key=$(cat "$pieces"/{encoder.json,vocab.bpe} "$dictionary" 2> /dev/null | cksum)
else
    encoder=(--spm "$pieces")
    key=$(cat "$pieces" "$dictionary" 2> /dev/null | cksum)
fi || die "$pieces holds no pieces of a pre-training; see PIECES"
items=${ITEMS:-${SMOKE:+80}}

# binarise FOLDER TEXT DICTIONARY: what fairseq's sentence prediction reads, and in inputs/ those of valid as a model sees them.
binarise() {
    local kind split files known
    for kind in input0 input1 label; do
        files=()
        for split in valid valid1; do # MNLI has two, in this order
            [ ! -f "$2/$split.$kind" ] || files+=("$2/$split.$kind")
        done
        [ ${#files[@]} -gt 0 ] || continue
        mkdir "$1/$kind" || return
        if [ "$kind" = label ] && [[ $2 == */STS-B/text ]]; then # scores, made to go from 0 to 1
            for file in "$2"/*.label; do awk '{ print $1 / 5 }' "$file" > "$1/$kind/${file##*/}" || return; done
            continue
        fi
        known=(--srcdict "$3")
        [ "$kind" != label ] || known=()
        preprocess "$1/$kind" --only-source "${known[@]}" \
            --trainpref "$2/train.$kind" --validpref "$(IFS=, && echo "${files[*]}")" || return
    done
    paste "$2"/valid.input? | sed 's|\t| </s> </s> |' > "$1/inputs.txt" || return
    preprocess "$1/inputs" --only-source --srcdict "$3" --validpref "$1/inputs.txt"
}

for task in "$@"; do
    KEY=$key make "$out/$task/text" python -m fairseq_layerdrop.corpora.glue "$raw/$task" {} --task "$task" "${encoder[@]}" \
        --dict "$dictionary" ${items:+--items "$items"}
    FROM=$out/$task/text make "$out/$task/data-bin" binarise {} "$out/$task/text" "$dictionary"
    say "$out/$task/data-bin is ready; next: $(step compare.sh CKPT "$task")"
done
