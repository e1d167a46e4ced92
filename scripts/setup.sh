# Sourced by the other scripts, from the repository's root: makes and reuses .venv, or takes the active virtual environment,
# and installs the package with its dependencies there. Does nothing when that was done before and nothing has changed.
#
#   PYTHON=python3.11   the interpreter to make .venv with (default: python3)
#   SETUP=skip          take the active environment as it is

check_python() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13) and "setup: Python 3.10 to 3.12 is needed, and this is " + sys.version.split()[0] + "; name another with PYTHON=")'
}

if [ "${SETUP:-}" = skip ]; then
    echo "setup: skipped"
    return 0
fi
if [ -n "${VIRTUAL_ENV:-}" ]; then
    echo "setup: using the active virtual environment $VIRTUAL_ENV"
    export PATH="$VIRTUAL_ENV/bin:$PATH"
    check_python python
else
    if ! { [ -f .venv/bin/activate ] && .venv/bin/python -m pip --version > /dev/null 2>&1; }; then
        check_python "${PYTHON:-python3}"
        echo "setup: making .venv"
        "${PYTHON:-python3}" -m venv --clear .venv
    fi
    echo "setup: using .venv"
    source .venv/bin/activate
fi

setup_stamp=$VIRTUAL_ENV/fairseq_layerdrop.setup
setup_state="$(pwd) $(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)"
if [ "$(cat "$setup_stamp" 2> /dev/null)" = "$setup_state" ]; then
    echo "setup: already done"
elif [ "${WORLD_SIZE:-1}" -gt 1 ] || [ "${SLURM_STEP_NUM_TASKS:-1}" -gt 1 ]; then
    echo "setup: several processes can't set up at once; first, on one: bash scripts/setup.sh" >&2
    exit 1
else
    rm -f "$setup_stamp"
    install() { python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"; }
    if python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "setup: installing PyTorch"
        install torch numpy cython setuptools wheel
        # Without build isolation: with it, pip would fetch a second PyTorch only to compile against.
        echo "setup: installing fairseq (compiles for some minutes the first time)"
        install --no-build-isolation fairseq-fixed
    else
        # Official fairseq has metadata that pip >= 24.1 refuses, and compiles with build isolation only.
        python -m pip install --quiet --disable-pip-version-check 'pip<24.1'
        echo "setup: installing PyTorch"
        install torch numpy setuptools wheel
        echo "setup: installing fairseq (fetches a second PyTorch to compile against, the first time)"
        install fairseq
    fi
    echo "setup: installing fairseq_layerdrop"
    install --no-build-isolation --editable '.[test,quickstart]'
    echo "$setup_state" > "$setup_stamp"
    echo "setup: done"
fi
