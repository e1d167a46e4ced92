# The steps of scripts/setup.sh, as functions.

stop_setup() {
    echo "setup: $*" >&2
    exit 1
}

# runs PYTHON OLDEST: whether this command is a Python 3.OLDEST to 3.13.
runs() { "$1" -c "import sys; sys.exit(not (3, $2) <= sys.version_info < (3, 14))" > /dev/null 2>&1; }

# Sets python: PYTHON, or one of the system's, uv's and pyenv's. 3.10, for which there is only official fairseq, comes last.
find_python() {
    local oldest uv pyenv
    if [ -n "${PYTHON:-}" ]; then
        runs "$PYTHON" 10 || stop_setup "PYTHON=$PYTHON is no Python 3.10 to 3.13"
        python=$PYTHON
        return
    fi
    pyenv=$(pyenv root 2> /dev/null) || pyenv=
    for oldest in 11 10; do
        uv=$(uv python find ">=3.$oldest,<3.14" 2> /dev/null) || uv=
        for python in python3 python3.{13,12,11,10} "$uv" "$pyenv"/versions/3.{13,12,11,10}.*/bin/python; do
            ! runs "$python" "$oldest" || return 0
        done
    done
    stop_setup "no Python 3.10 to 3.13 is here; install one, for instance with: uv python install 3.13, or pyenv install 3.13"
}

# What the script that sources this has to have: extras of pyproject.toml.
extras_for() {
    case $1 in
        quickstart) echo quickstart ;;
        recipe) echo glue,plot ;;
        test) echo quickstart,test ;;
        *) stop_setup "set up for quickstart, recipe or test, not for $1" ;;
    esac
}

# Makes .venv, or takes the active environment, and activates it.
enter_environment() {
    local python
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        echo "setup: using the active virtual environment $VIRTUAL_ENV"
        export PATH="$VIRTUAL_ENV/bin:$PATH"
        runs python 10 || stop_setup "Python 3.10 to 3.13 is needed, and the active environment has $(python --version)"
        return
    fi
    if ! { [ -f .venv/bin/activate ] && .venv/bin/python -m pip --version > /dev/null 2>&1; }; then
        find_python
        echo "setup: making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv || stop_setup "$python makes no environment; on Debian and Ubuntu install python3-venv"
    fi
    echo "setup: using .venv"
    source .venv/bin/activate
}

# -qq: pip's warnings are about pip.
install() { python -m pip install -qq --disable-pip-version-check --constraint "$constraints" "$@"; }

installed() { python -c "import importlib.metadata as all; print(all.version('$1'))" 2> /dev/null; }

# Writes constraints.txt for this environment: with the NumPy that is asked for, and the PyTorch that is there.
write_constraints() {
    local torch
    torch=$(installed torch) || torch=
    sed -e "${NUMPY:+s/^numpy==.*/numpy==$NUMPY/}" -e "${torch:+s/^torch==.*/torch==${torch%%+*}/}" constraints.txt > "$constraints"
}

# What is compiled against Python needs both.
check_compiler() {
    local header
    header=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    if ! { command -v c++ > /dev/null && [ -f "$header" ]; }; then
        stop_setup "a C++ compiler and Python's headers are needed; on Debian and Ubuntu install g++ and python3-dev"
    fi
}

has_gpu() { [ -e /dev/nvidiactl ] || command -v nvidia-smi > /dev/null; }

version_of_report='import json, sys; print(json.load(sys.stdin)["install"][0]["metadata"]["version"])'

# install_torch PACKAGE…: PyTorch and NumPy, and these with them.
install_torch() {
    local found extra=()
    [ -z "${TORCH_INDEX:-}" ] || extra=(--extra-index-url "$TORCH_INDEX")
    if found=$(installed torch); then
        echo "setup: PyTorch $found is there"
    else
        # Of one version pip prefers a build with a label, such as +cpu, wherever it is.
        found=$(python -m pip install -qq --disable-pip-version-check --constraint "$constraints" "${extra[@]}" \
            --dry-run --no-deps --report - torch | python -c "$version_of_report" 2> /dev/null) ||
            stop_setup "pip finds no PyTorch in its package registry"
        case "$(uname) $found" in
            Linux\ *+cpu) echo "setup: fetching PyTorch $found, 0.2 GB" ;;
            Linux*)
                echo "setup: fetching PyTorch $found, with CUDA about 3 GB"
                has_gpu || echo "setup: this machine shows no GPU; a build for CPUs is 0.2 GB: TORCH_INDEX= and its address, which pytorch.org tells" ;;
            *) echo "setup: fetching PyTorch $found" ;;
        esac
    fi
    install "${extra[@]}" torch numpy "$@"
}

# Whether fairseq's compiled parts fit the NumPy that is here.
fairseq_fits() { python -c 'from fairseq.data import data_utils_fast, token_block_utils_fast' > /dev/null 2>&1; }

install_fairseq() {
    if ! runs python 11; then
        # Official fairseq has metadata that pip >= 24.1 refuses, and compiles with build isolation only.
        install 'pip<24.1'
        install_torch setuptools wheel
        echo "setup: installing fairseq (fetches a second PyTorch to compile against, the first time)"
        install fairseq
        return
    fi
    install_torch cython setuptools wheel
    echo "setup: installing fairseq (compiles for some minutes the first time)"
    # Without build isolation: with it, pip would fetch a second PyTorch only to compile against.
    install --no-build-isolation fairseq-fixed
    if ! fairseq_fits; then
        echo "setup: fairseq was compiled for another NumPy; compiling it anew"
        install --no-build-isolation --no-cache-dir --no-deps --force-reinstall fairseq-fixed
        fairseq_fits || stop_setup "fairseq can't be imported; see: python -c 'import fairseq.data.data_utils_fast'"
    fi
}

# set_up quickstart|recipe|test
set_up() {
    if [ "${SETUP:-}" = skip ]; then
        echo "setup: skipped"
        return
    fi
    local extras stamp state constraints
    extras=$(extras_for "$1")
    enter_environment
    stamp=$VIRTUAL_ENV/fairseq_layerdrop.setup
    constraints=$VIRTUAL_ENV/fairseq_layerdrop.constraints
    state="$(pwd) ${NUMPY:-} $(cat pyproject.toml constraints.txt scripts/setup*.sh | cksum)"
    if grep -qsxF -e "$state $1" -e "$state test" "$stamp"; then
        echo "setup: already done"
        return
    elif [ "${WORLD_SIZE:-1}" -gt 1 ] || [ "${SLURM_STEP_NUM_TASKS:-1}" -gt 1 ]; then
        stop_setup "several processes can't set up at once; first, on one: bash scripts/setup.sh"
    fi
    write_constraints
    if ! grep -qsF "$state " "$stamp"; then
        rm -f "$stamp"
        check_compiler
        install_fairseq
    fi
    echo "setup: installing fairseq_layerdrop, with what the ${1/recipe/recipes} needs"
    install --no-build-isolation --editable ".[$extras]"
    echo "$state $1" >> "$stamp"
    echo "setup: done"
}
