#!/usr/bin/env bash
# torch 2.13.0 with numpy 1.26.4: torch.load's weights-only unpickler and numpy arrays.
#
# Expected: a file loads once all that torch.serialization.get_unsafe_globals_in_checkpoint names is allowed, and an
# array's size makes no difference.
# Behaviour: the class of the array's dtype is wanted too and isn't named; with it, an array of one number loads, and
# an empty one doesn't, since the pickle makes its empty contents by a call of the builtin bytes.
# Output seen: named: ['numpy.core.multiarray._reconstruct', 'numpy.dtype', 'numpy.ndarray']; with these: UnpicklingError;
# with the dtype's class: one number: 1, empty: UnpicklingError
#
# Installs into a temporary folder; exit status 1 where torch behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==1.26.4
"$folder/venv/bin/python" - << 'PYTHON'
import io
import pickle
import sys

import numpy
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals


def load(array, allowed):
    file = io.BytesIO()
    torch.save(array, file)
    with safe_globals(allowed):
        try:
            return len(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        except pickle.UnpicklingError:
            return "UnpicklingError"


file = io.BytesIO()
torch.save(numpy.ones(1), file)
named = sorted(get_unsafe_globals_in_checkpoint(io.BytesIO(file.getvalue())))
allowed = [numpy.core.multiarray._reconstruct, numpy.ndarray, numpy.dtype]
more = [*allowed, type(numpy.dtype("f8"))]
found = (named, load(numpy.ones(1), allowed), load(numpy.ones(1), more), load(numpy.ones(0), more))
print(f"named: {found[0]}; with these: {found[1]}; with the dtype's class: one number: {found[2]}, empty: {found[3]}")
expected = (
    ["numpy.core.multiarray._reconstruct", "numpy.dtype", "numpy.ndarray"], "UnpicklingError", 1, "UnpicklingError",
)
sys.exit(found != expected and "torch behaves otherwise now")
PYTHON
