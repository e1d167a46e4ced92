# Sourced by scripts/BENCHMARK/{prepare,train,evaluate}.sh: the steps that the benchmarks share. It goes to the repository's
# root and sets everything up.
#
#   RAW=DIR              where the raw data is; made absolute before
#   OUT=work/BENCHMARK   where everything goes (work/BENCHMARK-smoke with SMOKE=1)
#   SMOKE=1              a small model, some updates and few sentences: the whole path in minutes
benchmark=$(basename "$(dirname "$(realpath "$0")")")
raw=${RAW:+$(realpath -m -- "$RAW")}
cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/.."
source scripts/setup.sh

SMOKE=${SMOKE:-}
[ "$SMOKE" != 0 ] || SMOKE=
out=${OUT:-work/$benchmark${SMOKE:+-smoke}}
runs=$(cd "configs/$benchmark" && echo *.yaml | sed 's/\.yaml//g')

say() { echo "$benchmark: $*"; }

die() {
    say "$@" >&2
    exit 1
}

# make FOLDER COMMAND…: run a command that writes into a folder, {} among its arguments. The folder appears when the command
# has succeeded; where it is there already, nothing is done.
make() {
    local folder=$1
    shift
    if [ -d "$folder" ]; then
        say "$folder is there; remove it to make it anew"
        return
    fi
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    "${@//\{\}/$folder.part}"
    mv "$folder.part" "$folder"
}

# download URL FILE [MD5]: goes on with a part that an earlier call left.
download() {
    if [ ! -f "$2" ]; then
        mkdir -p "$(dirname "$2")"
        say "downloading $1"
        case $1 in
            *drive.google.com*)
                command -v gdown > /dev/null || die "to download $1, first: pip install gdown (or give RAW)"
                gdown --continue "$1" -O "$2.part" ;;
            *) curl --fail --location --retry 5 --continue-at - --progress-bar --output "$2.part" "$1" ;;
        esac || die "could not download $1; run this again to go on, or fetch it by other means and give RAW"
        if [ -n "${3:-}" ] && ! echo "$3  $2.part" | md5sum --check --status; then
            rm "$2.part"
            die "$1 is not the file that it was: its MD5 is not $3"
        fi
        mv "$2.part" "$2"
    fi
}

workers() { nproc; }

visible_gpus() { python -c 'import torch; print(torch.cuda.device_count())'; }

# train [NAME] [SECTION.FIELD=VALUE …]: train a run of configs/, or go on with it. Before: default=NAME, smoke=(overrides).
#
# On GPUS GPUs of this machine (default: all that are visible; 0 is a CPU). For several machines, start the script once a GPU
# by torchrun (--no-python) or by srun; their variables say who is who. The batch stays what the configuration says; UPDATE_FREQ
# sets how often to accumulate, with fewer tokens at a time.
train() {
    local name=${1:-$default} gpus processes flags worker=()
    [[ $name != *=* ]] || die "the name of the run comes first; the runs are $runs"
    [ -f "configs/$benchmark/$name.yaml" ] || die "no configs/$benchmark/$name.yaml; the runs are $runs"
    [ -d "$out/data-bin" ] || die "no data yet; first: bash scripts/$benchmark/prepare.sh"
    if [ -n "${SLURM_STEP_NUM_TASKS:-}" ] && [ "$SLURM_STEP_NUM_TASKS" -gt 1 ]; then
        export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_STEP_NUM_TASKS
        export MASTER_PORT=${MASTER_PORT:-29500}
        export MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_STEP_NODELIST" | head -n 1)}
    fi
    gpus=${GPUS:-$(visible_gpus)}
    [ -z "$SMOKE" ] || [ "$gpus" -le 1 ] || gpus=1
    processes=$((gpus > 0 ? gpus : 1))
    if [ "${WORLD_SIZE:-1}" -gt 1 ]; then
        processes=$WORLD_SIZE
        worker=(--distributed-init-method env:// --distributed-rank "$RANK" --device-id "$LOCAL_RANK" --distributed-no-spawn)
    fi
    local overrides=("task.data=$out/data-bin" "checkpoint.save_dir=$out/$name")
    [ -z "$SMOKE" ] || overrides+=("${smoke[@]}")
    flags=$(fairseq-layerdrop flags "configs/$benchmark/$name.yaml" "${overrides[@]}" "${@:2}" \
        "$([ "$gpus" = 0 ] && echo --cpus || echo --gpus)" "$processes" ${UPDATE_FREQ:+--update-freq "$UPDATE_FREQ"})
    eval "flags=($flags)"
    say "training $name in $out/$name"
    fairseq-train "${flags[@]}" "${worker[@]}"
}

# trained NAME…: the runs to evaluate, those given or all that are there.
trained() {
    local name
    [ $# -gt 0 ] || for name in $runs; do
        [ ! -f "$out/$name/checkpoint_last.pt" ] || set -- "$@" "$name"
    done
    [ $# -gt 0 ] || die "nothing trained in $out yet; first: bash scripts/$benchmark/train.sh"
    for name in "$@"; do
        [ -f "$out/$name/checkpoint_last.pt" ] || die "no $out/$name/checkpoint_last.pt; first: bash scripts/$benchmark/train.sh $name"
    done
    names=("$@")
}

# average NAME N: write the average of the last N epochs' checkpoints.
average() {
    fairseq-layerdrop average "$out/$1" --last "$2" --force -o "$out/$1/checkpoint_average.pt"
}

# evaluate PROGRAM NAME CHECKPOINT SPEC [flags]: one run of fairseq-generate or fairseq-eval-lm with --prune-layers SPEC; its log
# goes where table finds it.
evaluate() {
    local program=$1 name=$2 checkpoint=$3 spec=$4 log
    log="$out/logs/$name/${spec//[^a-z0-9]/-}.log"
    mkdir -p "$(dirname "$log")"
    say "$name, $spec"
    [ -n "${device+set}" ] || { [ "${GPUS:-$(visible_gpus)}" = 0 ] && device=--cpu || device=; }
    "$program" "$out/data-bin" --user-dir fairseq_layerdrop --path "$out/$name/$checkpoint" --prune-layers "$spec" $device \
        --required-batch-size-multiple 1 "${@:5}" > "$log" 2>&1 || { tail -n 3 "$log" >&2; exit 1; }
}

# table TITLE [flags]: one table of all runs in $names at all depths, beside the paper's values.
table() {
    local paper="configs/$benchmark/paper.json"
    [ ! -f "$paper" ] || set -- "$@" --paper "$paper"
    python -m fairseq_layerdrop.evaluation.depth_table --title "$1${SMOKE:+, SMOKE}" --out "$out/result" "${@:2}" \
        "${names[@]/#/$out/logs/}"
}
