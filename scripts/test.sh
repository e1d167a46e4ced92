#!/usr/bin/env bash
# Set up and run the tests: bash scripts/test.sh [pytest's options]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh test

export OMP_NUM_THREADS=1 # one core a test process
ruff check .
ruff format --check .
mypy
if python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then # which the documentation's tools want
    python scripts/docs/generate.py --check
    NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet
fi
python -m pytest --numprocesses auto --dist loadscope "$@"
