# Sourced by scripts/BENCHMARK/{prepare,train,evaluate}.sh: the steps that the benchmarks share. It goes to the repository's
# root and sets everything up.
#
#   RAW=DIR              where the raw data is
#   OUT=DIR              where everything goes (default: work/BENCHMARK here, work/BENCHMARK-smoke with SMOKE=1)
#   SMOKE=1              a small model, some updates and few sentences: the whole path in a minute or two
benchmark=$(basename "$(dirname "$(realpath "$0")")")
raw=${RAW:+$(realpath -m -- "$RAW")}
out=${OUT:+$(realpath -m -- "$OUT")}
cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/.."
source scripts/setup.sh recipe

unset FROM KEY # which make takes
SMOKE=${SMOKE:-}
[ "$SMOKE" != 0 ] || SMOKE=
out=${out:-work/$benchmark${SMOKE:+-smoke}}
runs=$(cd "configs/$benchmark" && echo *.yaml | sed 's/\.yaml//g')

say() { echo "$benchmark: $*"; }

die() {
    say "$@" >&2
    exit 1
}

# The command for another step of this benchmark, with the variables that this one was given.
step() { echo "${SMOKE:+SMOKE=1 }${OUT:+OUT=$OUT }bash scripts/$benchmark/$*"; }

# make FOLDER COMMAND…: run a command that writes into a folder, {} among its arguments. The folder appears when the command
# has succeeded. One that the same command has made before stays; after another command, or where FROM was made anew since or
# KEY, a word, is another one, it is made anew.
make() {
    local folder=$1 made
    shift
    made="$* ${FROM:+$(cat "$FROM/.made") $(stat -c %Y "$FROM/.made")}${KEY:-}"
    if [ -d "$folder" ] && [ "$(cat "$folder/.made" 2> /dev/null)" = "$made" ]; then
        say "$folder is there"
        return
    fi
    [ ! -d "$folder" ] || say "$folder was made in another way; making it anew"
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    "${@//\{\}/$folder.part}" || exit 1
    echo "$made" > "$folder.part/.made"
    rm -rf "$folder"
    mv "$folder.part" "$folder"
}

# download URL FILE [MD5]: goes on with a part that an earlier call left.
download() {
    local status=0
    [ ! -f "$2" ] || return 0
    mkdir -p "$(dirname "$2")"
    say "downloading $1"
    case $1 in
        *drive.google.com*)
            command -v gdown > /dev/null || die "to download $1, first: pip install gdown (or give RAW)"
            gdown --continue "$1" -O "$2.part" || status=$? ;;
        *)
            curl --fail --location --retry 5 --continue-at - --progress-bar --output "$2.part" "$1" || status=$?
            if [ "$status" = 33 ]; then # the server can't go on in the middle
                rm "$2.part"
                status=0
                curl --fail --location --retry 5 --progress-bar --output "$2.part" "$1" || status=$?
            fi ;;
    esac
    [ "$status" = 0 ] || die "could not download $1; run this again to go on, or fetch it by other means and give RAW"
    if [ -n "${3:-}" ] && ! echo "$3  $2.part" | md5sum --check --status; then
        rm "$2.part"
        die "$1 is not the file that it was: its MD5 is not $3"
    fi
    mv "$2.part" "$2"
}

workers() { nproc; }

# preprocess FOLDER FLAG…: fairseq-preprocess on all cores into FOLDER. Without our plugin it spoils large data there (NumPy 2).
preprocess() {
    mkdir -p "$1"
    fairseq-preprocess --user-dir fairseq_layerdrop --workers "$(workers)" --destdir "$1" "${@:2}" > "$1/output.log" 2>&1 ||
        { tail -n 3 "$1/output.log" >&2; die "failed, see $1/output.log"; }
}

visible_gpus() { python -c 'import torch; print(torch.cuda.device_count())'; }

# Sets gpus: GPUS, if they are there, or all that are visible; 0 is a CPU.
count_gpus() {
    gpus=$(visible_gpus)
    if [ -n "${GPUS:-}" ]; then
        [[ $GPUS =~ ^[0-9]+$ ]] || die "GPUS must be a number, not $GPUS"
        [ "$GPUS" -le "$gpus" ] || die "GPUS=$GPUS, but $gpus are visible; GPUS=0 takes a CPU"
        gpus=$GPUS
    fi
}

# Sets processes, and worker: what tells fairseq-train which of several processes this is, where torchrun or srun started it as
# one. Else fairseq itself starts one for each GPU, and isn't to take what some cluster left in the environment for a start.
find_processes() {
    worker=()
    processes=0
    if [ "${SLURM_STEP_NUM_TASKS:-1}" -gt 1 ]; then
        export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_STEP_NUM_TASKS
        export MASTER_PORT=${MASTER_PORT:-$((20000 + ${SLURM_JOB_ID:-9500} % 20000))}
        if [ -z "${MASTER_ADDR:-}" ]; then
            MASTER_ADDR=$(scontrol show hostnames "${SLURM_STEP_NODELIST:-}" | head -n 1) || true
            [ -n "$MASTER_ADDR" ] || die "scontrol doesn't tell the step's machines; set MASTER_ADDR to the first one"
            export MASTER_ADDR
        fi
    fi
    if [ "${WORLD_SIZE:-1}" -gt 1 ] || [ -n "${TORCHELASTIC_RUN_ID:-}" ]; then
        processes=$WORLD_SIZE
    fi
    if [ "$processes" -gt 1 ]; then
        worker=(--distributed-init-method env:// --distributed-rank "$RANK" --distributed-no-spawn)
        worker+=(--device-id "$((gpus > 1 ? LOCAL_RANK : 0))") # where each process sees one GPU, it is its first
    else
        unset RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT
    fi
}

# ended CHECKPOINT [LIMIT …]: whether its training has come to its end, by these limits or else by its own. fairseq-train itself
# would make an update more.
ended() { [ -f "$1" ] && fairseq-layerdrop ended "$@" > /dev/null; }

# train [NAME] [SECTION.FIELD=VALUE …]: train a run of configs/, or go on with it until it has ended. Before: default=NAME,
# smoke=(overrides).
#
# On GPUS GPUs of this machine (default: as many of the visible ones as can share the batch; 0 is a CPU). For several machines,
# start the script once a GPU by torchrun (--no-python) or by srun; their variables say who is who. OUT is a folder that all of
# them see. The batch stays what the configuration says; UPDATE_FREQ sets how often to accumulate, with fewer tokens at a time.
train() {
    local name=${1:-$default} flags devices
    [[ $name != *=* ]] || die "the name of the run comes first; the runs are $runs"
    [ -f "configs/$benchmark/$name.yaml" ] || die "no configs/$benchmark/$name.yaml; the runs are $runs"
    [ -d "$out/data-bin" ] || die "no $out/data-bin yet; first: $(step prepare.sh)"
    count_gpus
    find_processes
    [ -z "$SMOKE" ] || [ "$processes" -gt 0 ] || [ "$gpus" -le 1 ] || gpus=1
    if [ "$gpus" = 0 ]; then
        devices=(--cpus "$((processes > 0 ? processes : 1))")
    elif [ "$processes" -gt 0 ]; then
        devices=(--gpus "$processes")
    elif [ -n "${GPUS:-}${UPDATE_FREQ:-}" ]; then
        devices=(--gpus "$gpus")
    else
        devices=(--most-gpus "$gpus")
    fi
    local overrides=("task.data=$out/data-bin" "checkpoint.save_dir=$out/$name")
    [ -z "$SMOKE" ] || overrides+=("${smoke[@]}")
    flags=$(fairseq-layerdrop flags "configs/$benchmark/$name.yaml" "${overrides[@]}" "${@:2}" "${devices[@]}" \
        ${UPDATE_FREQ:+--update-freq "$UPDATE_FREQ"})
    eval "flags=($flags)"
    local last limit limits=()
    last=$(value_of --save-dir checkpoints "${flags[@]}")/checkpoint_last.pt
    for limit in --max-update --max-epoch --stop-time-hours; do
        limits+=("$limit" "$(value_of "$limit" 0 "${flags[@]}")")
    done
    if [ "$(value_of --restore-file checkpoint_last.pt "${flags[@]}")" = checkpoint_last.pt ] && ended "$last" "${limits[@]}"; then
        [ "${RANK:-0}" != 0 ] || say "$name in $out/$name has ended; for more, raise optimization.max_update or max_epoch"
        return
    fi
    [ "${RANK:-0}" != 0 ] || say "training $name in $out/$name, $(in_words "${flags[@]}")"
    fairseq-train "${flags[@]}" "${worker[@]}"
}

# value_of FLAG DEFAULT WORD…: what FLAG is among the words.
value_of() {
    local flag=$1 value=$2
    shift 2
    while [ $# -gt 0 ]; do
        [ "$1" != "$flag" ] || value=$2
        shift
    done
    echo "$value"
}

# in_words FLAG…: devices and batch of a training.
in_words() {
    local device=GPU
    [[ " $* " != *" --cpu "* ]] || device=CPU
    echo "$(value_of --max-tokens - "$@") tokens x $(value_of --update-freq 1 "$@") accumulations x" \
        "$(value_of --distributed-world-size 1 "$@") $device"
}

# trained EPOCHS [NAME …]: sets names, the runs to evaluate: those given, or all that have so many epochs' checkpoints (0: any).
trained() {
    local name epochs=$1 given=$#
    shift
    names=()
    [ $# -gt 0 ] || set -- $runs
    for name in "$@"; do
        [ -f "configs/$benchmark/$name.yaml" ] || die "no configs/$benchmark/$name.yaml; the runs are $runs"
        if [ ! -f "$out/$name/checkpoint_last.pt" ]; then
            [ "$given" = 1 ] || die "no $out/$name/checkpoint_last.pt; first: $(step train.sh "$name")"
        elif [ "$(find "$out/$name" -regex '.*/checkpoint[0-9]+\.pt' | wc -l)" -lt "$epochs" ]; then
            [ "$given" = 1 ] || die "$out/$name hasn't $epochs epochs to average yet; train on, or set AVERAGE"
            say "leaving out $name, which hasn't $epochs epochs to average yet"
        else
            names+=("$name")
        fi
    done
    [ ${#names[@]} -gt 0 ] || die "nothing to evaluate in $out yet; first: $(step train.sh)"
}

# average NAME N: sets checkpoint, the average of the last N epochs' checkpoints, written where it isn't there or is older.
average() {
    checkpoint=checkpoint_average_$2.pt
    [ "$out/$1/$checkpoint" -nt "$out/$1/checkpoint_last.pt" ] ||
        fairseq-layerdrop average "$out/$1" --last "$2" --force -o "$out/$1/$checkpoint"
}

# evaluate PROGRAM NAME CHECKPOINT SPEC [flags]: one run of fairseq-generate or fairseq-eval-lm with --prune-layers SPEC; its log
# is added to logs. It appears when it is whole, and one of the same command on the same checkpoint stays.
logs=()
evaluate() {
    local program=$1 name=$2 checkpoint=$out/$2/$3 spec=$4 log command
    log="$out/logs/$name/${spec//[^a-z0-9]/-}.log"
    logs+=("$log")
    [ -n "${gpus:-}" ] || count_gpus
    command=("$program" "$out/data-bin" --user-dir fairseq_layerdrop --path "$checkpoint" --prune-layers "$spec"
        --required-batch-size-multiple 1 "${@:5}")
    [ "$gpus" != 0 ] || command+=(--cpu)
    if [ "$log" -nt "$checkpoint" ] && [ "$(head -n 1 "$log")" = "# ${command[*]}" ]; then
        say "$name, $spec: is there"
        return
    fi
    say "$name, $spec"
    mkdir -p "$(dirname "$log")"
    echo "# ${command[*]}" > "$log.part"
    "${command[@]}" >> "$log.part" 2>&1 || { tail -n 3 "$log.part" >&2; die "failed, see $log.part"; }
    mv "$log.part" "$log"
}

# table TITLE [flags]: one table of the logs, beside the paper's values where there are some.
paper="configs/$benchmark/paper.json"
table() {
    [ ! -f "$paper" ] || set -- "$@" --paper "$paper"
    python -m fairseq_layerdrop.reports.depth_table --title "$1${SMOKE:+, SMOKE}" --out "$out/result" "${@:2}" "${logs[@]}"
}
