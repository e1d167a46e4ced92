"""What the changes to fairseq for NumPy 2 do; :mod:`.fairseq_fixes` has the table of all changes."""

import functools
import inspect
from collections.abc import Callable

import numpy as np

from .base.errors import UserError


def lower_percentiles(function):
    """``get_buckets`` with ``method=`` for the name that numpy no longer knows."""

    @functools.wraps(function)
    def get_buckets(sizes, num_buckets):
        return np.unique(np.percentile(sizes, np.linspace(0, 100, num_buckets + 1), method="lower")[1:])

    return get_buckets


def count_in_integers(finalize):
    """``MMapIndexedDatasetBuilder.finalize`` that counts the places of sentences in Python's integers."""

    @functools.wraps(finalize)
    def finalize_in_integers(self, index_file):
        self._sizes = [int(size) for size in self._sizes]
        finalize(self, index_file)

    return finalize_in_integers


def refuse_wrapped(read):
    """``MMapIndexedDataset._do_init`` that refuses an index whose places were counted in too few bits."""

    @functools.wraps(read)
    def read_index(self, path):
        read(self, path)
        if (self._index._pointers < 0).any():
            spoilt = "was spoilt by fairseq-preprocess with --workers under NumPy 2: its offsets are negative"
            raise UserError(f"{path}.idx {spoilt}; make the data anew, with --user-dir")

    return read_index


def gives_interpolation(function: Callable) -> bool:
    """Whether a function gives :func:`numpy.percentile` an argument that this numpy lacks."""
    name = "interpolation"
    return name in str(function.__code__.co_consts) and name not in inspect.signature(np.percentile).parameters
