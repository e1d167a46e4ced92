"""What torch's weights-only unpickler may build beyond torch's own types: the plain data in fairseq's checkpoints.

Beside settings these are numbers and arrays of numpy, as ``--eval-bleu`` keeps its counts in arrays and scores of
scikit-learn and SciPy are numpy's numbers; and the meters that fairseq up to 0.9 saved as objects. numpy's own
functions can be made to build more than numbers, so a pickle that names them gets those of this module, which can't.
"""

import argparse
import pickle
import re
from collections.abc import Callable

import numpy
import torch

# What torch's unpickler says of that which it refuses.
_REFUSED = re.compile(r"GLOBAL (\S+) (?:was|whose)|but got <class '([^']+)'>|unrecognized function (\S+)")


def _dtype(name, *_) -> numpy.dtype:
    """numpy's type of numbers or truth values of this *name*, as ``f8``, in the byte order of this machine.

    It is numpy's one object for that type, on which numpy ignores a state that a pickle sets.

    Raises:
        UnpicklingError: another type, for instance that of Python's objects.
    """
    try:
        if re.fullmatch(r"[biufc]\d{1,2}", name):
            return numpy.dtype(name)
    except TypeError:  # not a name, or of a type that this machine doesn't have
        pass
    raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({name!r}) was not allowed")


def _scalar(dtype: numpy.dtype, data: bytes) -> numpy.generic:
    return numpy.frombuffer(data, dtype, count=1)[0]


def _array(*_) -> numpy.ndarray:
    """An array for a pickle to set its state: shape, type and bytes, whose number numpy checks."""
    return numpy.empty(0, "b")


def _no_bytes() -> bytes:
    """The contents of an empty array."""
    return b""


class _Meter:
    """Takes the place of a class of meters; its objects are namespaces of their attributes."""

    def __new__(cls, *_):
        return argparse.Namespace()


_BY_NAME: dict[str, Callable] = {
    "argparse.Namespace": argparse.Namespace,
    "builtins.bytes": _no_bytes,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _array,  # an argument of `_reconstruct`
    # numpy 1 and 2 have them in modules of different names.
    **{f"numpy.{core}.multiarray.{name}": function
       for core in ("core", "_core") for name, function in (("_reconstruct", _array), ("scalar", _scalar))},
    **{f"fairseq.meters.{name}": _Meter for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")},
}  # fmt: skip
_NUMBERS = "?" + numpy.typecodes["AllInteger"] + numpy.typecodes["AllFloat"]
# Whose state may be set. A name in a pickle has no line break, so that no pickle can call these.
_TYPES: list[type] = [numpy.ndarray, *(type(numpy.dtype(code)) for code in _NUMBERS)]
_STATEFUL: dict[str, Callable] = {f"{cls.__name__}\n": cls for cls in _TYPES}


def allow_fairseq_types() -> None:
    """Let :func:`torch.load` read fairseq's checkpoints, whoever calls it: of numpy 1 and 2, and of fairseq up to 0.9.

    fairseq calls it without ``weights_only``, so torch >= 2.6 uses the unpickler that refuses unknown types.
    """
    torch.serialization.add_safe_globals([(value, name) for name, value in {**_BY_NAME, **_STATEFUL}.items()])


def refused_type(error: Exception) -> str | None:
    """Name of the type or function for which torch's unpickler refused a file; None where that isn't what is wrong."""
    found = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return next(filter(None, found.groups())) if found else None
