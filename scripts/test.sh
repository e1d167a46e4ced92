#!/usr/bin/env bash
# Set up and run the tests: bash scripts/test.sh [pytest's options]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

export OMP_NUM_THREADS=1 # one core a test process
ruff check .
ruff format --check .
python -m pytest --numprocesses auto --dist loadscope "$@"
