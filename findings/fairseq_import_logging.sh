#!/usr/bin/env bash
# fairseq-fixed 0.12.3.1 (fairseq's main branch): what importing it does to Python's logging.
#
# Expected: importing a library leaves the root logger as it is.
# Behaviour: one of its tasks calls logging.basicConfig at level DEBUG when it is imported, and importing fairseq
# imports all tasks. So a program that imports fairseq before it sets up logging prints the debug lines of all its
# libraries, and its own logging.basicConfig has no effect any more.
# Output seen: before 30 with 0 handlers, after 10 with 1 handlers
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
"$folder/venv/bin/python" - << 'PYTHON'
import logging
import sys


def state():
    return logging.root.level, len(logging.root.handlers)


before = state()
import fairseq  # noqa: E402, F401

after = state()
print("before {} with {} handlers, after {} with {} handlers".format(*before, *after))
sys.exit((before, after) != ((30, 0), (10, 1)) and "fairseq behaves otherwise now")
PYTHON
