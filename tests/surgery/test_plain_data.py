"""What files may hold beside tensors and settings, whoever calls torch.load."""

import os
import pickle
from argparse import Namespace
from collections import Counter, OrderedDict

import numpy
import pytest
import torch

from fairseq_layerdrop.surgery.plain_data import allow_fairseq_types, refused_type
from tests.foreign import CORE, CORES, OLD_METERS, old_meters, save

NUMBERS = "?" + numpy.typecodes["AllInteger"] + numpy.typecodes["AllFloat"]

allow_fairseq_types()


def loaded(value, path, *args, **kwargs):
    save(value, path, *args, **kwargs)
    return torch.load(path)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("new_format", [True, False])
def test_numbers_and_arrays(tmp_path, core, new_format):
    """Of every type of numbers, in the names of numpy 1 and of numpy 2."""
    grids = [numpy.arange(6).reshape(2, 3).astype(code) for code in NUMBERS]
    arrays = [*grids, numpy.asfortranarray(grids[-1]), grids[3][:, 1], numpy.zeros((0, 2)), numpy.array(7)]
    numbers = [grid[1, 2] for grid in grids]
    found = loaded([arrays, numbers], tmp_path / "numbers.pt", {CORE: core}, _use_new_zipfile_serialization=new_format)
    for before, after in zip(arrays, found[0]):
        assert type(after) is numpy.ndarray and after.dtype == before.dtype
        assert after.shape == before.shape and (after == before).all()
        after += after.astype(after.dtype)  # its own memory, to write to
    for before, after in zip(numbers, found[1]):
        assert isinstance(after, numpy.generic) and after.dtype == before.dtype and after == before


def test_a_pickle_cant_change_a_type(tmp_path):
    """What it sets is ignored, so that no array takes its bytes for objects."""
    for code in NUMBERS:
        dtype = loaded(numpy.dtype(code), tmp_path / "type.pt")
        told = (dtype.str, dtype.flags, dtype.itemsize, dtype.hasobject)
        dtype.__setstate__((3, ">", None, None, None, -1, -1, 63))  # with the flags of objects
        assert (dtype.str, dtype.flags, dtype.itemsize, dtype.hasobject) == told


def test_containers(tmp_path):
    value = {"a": OrderedDict(b=Counter("cc")), "d": {1, 2}, "e": Namespace(f=(1, 2.0, None, b"g", 1 << 70))}
    assert loaded(value, tmp_path / "containers.pt") == value


def test_meters_become_namespaces(tmp_path):
    found = loaded(old_meters(), tmp_path / "meters.pt", OLD_METERS)
    assert found == OrderedDict((name, Namespace(**vars(meter))) for name, meter in old_meters().items())
    assert {type(meter) for meter in found.values()} == {Namespace}


@pytest.mark.parametrize(
    "value, name",
    [
        (numpy.array([{}]), "numpy.dtype('O8')"),
        (numpy.array(["text"]), "numpy.dtype('U4')"),
        (numpy.zeros(2, "f8,i4"), "numpy.dtype('V12')"),
        (numpy.datetime64("2020-01-01"), "numpy.dtype('M8')"),
        (numpy.random.RandomState, "numpy.random.mtrand.RandomState"),
        (numpy.array, "numpy.array"),
        (print, "print"),
        (os.getcwd, f"{os.name}.getcwd"),
    ],
)
def test_refuses_others_by_name(tmp_path, value, name):
    with pytest.raises(pickle.UnpicklingError) as refused:
        loaded(value, tmp_path / "other.pt")
    assert refused_type(refused.value) == name


def test_other_errors_name_nothing(tmp_path):
    save([1], tmp_path / "part.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "part.pt").write_bytes((tmp_path / "part.pt").read_bytes()[:20])
    with pytest.raises(Exception) as damaged:
        torch.load(tmp_path / "part.pt")
    assert refused_type(damaged.value) is None
