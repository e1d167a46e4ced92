#!/usr/bin/env bash
# Sajjad et al. (2020), "Poor Man's BERT": drop K layers of a pre-trained model by several strategies, fine-tune, and compare on
# dev: work/glue/TASK/result.{md,json}, beside the majority class and a model fine-tuned from random weights.
#
#   bash scripts/glue/compare.sh CKPT TASK
#
# Each run is a line of work/glue/TASK/rows.jsonl at once, and the same command goes on from there; two of them at a time share
# the runs. With another CKPT of the same shape, its rows are added to the table. All models are fine-tuned in the same way,
# without LayerDrop and without a look at dev before the end; sentences of about the same length share a batch.
#
#   K="0 4 6"          how many layers to drop (default: none, a third and half of them); 0 stands for the full model, with
#                      and without its pre-training
#   STRATEGIES="…"     of top bottom middle odd_alternate even_alternate contribution (default: all); middle is their symmetric
#                      one, contribution drops the layers that change [CLS] least on dev's sentences
#   EPOCHS=3, SEEDS="1 2 3"
#   LR, BATCH          default: those of configs/glue/TASK.yaml, which suit large models; small ones want a higher LR
#   NAME               of the model in the table (default: that of CKPT's folder)
#   OUT=work/glue, SMOKE=1, GPUS   see scripts/recipe.sh
set -euo pipefail
checkpoint=${1:+$(realpath -m -- "$1")}
source "$(dirname "$0")/../recipe.sh"

[ $# = 2 ] || die "which checkpoint and task? bash scripts/glue/compare.sh CKPT TASK"
[ -f "configs/glue/$2.yaml" ] || die "GLUE has no task $2; its tasks are $runs"
[ -d "$out/$2/data-bin" ] || die "no $out/$2/data-bin yet; first: $(step prepare.sh "$2")"
[[ $(< "$out/$2/data-bin/.made") == *"$(< "$out/$2/text/.made")"* ]] ||
    die "$out/$2/data-bin isn't made from $out/$2/text; first, again: $(step prepare.sh "$2")"
count_gpus
[ -z "$SMOKE" ] || { K=${K:-0 1} STRATEGIES=${STRATEGIES:-top} EPOCHS=${EPOCHS:-1} SEEDS=${SEEDS:-1}; }
arguments=()
[ -z "${K:-}" ] || arguments+=(--drop $K)
[ -z "${STRATEGIES:-}" ] || arguments+=(--strategies $STRATEGIES)
[ -z "${LR:-}" ] || arguments+=(--learning-rate "$LR")
[ -z "${BATCH:-}" ] || arguments+=(--batch-size "$BATCH")
[ -z "${NAME:-}" ] || arguments+=(--name "$NAME")
[ "$gpus" != 0 ] || arguments+=(--cpu)
exec python scripts/glue/compare.py "$checkpoint" "$2" "$out/$2" --epochs "${EPOCHS:-3}" --seeds ${SEEDS:-1 2 3} \
    --title "GLUE, $2, dev${SMOKE:+, SMOKE}" "${arguments[@]}"
