#!/usr/bin/env bash
# Train a Multi30k model: bash scripts/multi30k/train.sh layerdrop|baseline [hydra overrides]
#
# The run is configs/multi30k/NAME.yaml; it goes to work/multi30k/NAME (or OUT/NAME). Started again after a kill, it goes on
# from the last finished epoch.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup.sh

out=${OUT:-work/multi30k}
name=${1:?say which run: layerdrop or baseline}
[ -f "configs/multi30k/$name.yaml" ] || { echo "multi30k: no configs/multi30k/$name.yaml; the runs are layerdrop and baseline" >&2; exit 1; }
[ -d "$out/data-bin" ] || { echo "multi30k: no data yet; first: bash scripts/multi30k/prepare.sh" >&2; exit 1; }
fairseq-hydra-train --config-dir configs/multi30k --config-name "$name" \
    task.data="$out/data-bin" checkpoint.save_dir="$out/$name" hydra.run.dir="$out/$name" "${@:2}"
