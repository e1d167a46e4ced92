"""Checkpoints as other versions of numpy and fairseq write them."""

import io
import zipfile
from collections import OrderedDict

import numpy
import torch
from fairseq.logging import meters

# The package of this numpy's constructor, as pickles name it; numpy 2 calls it otherwise than numpy 1 does.
CORE = numpy.zeros(0).__reduce__()[0].__module__.removesuffix(".multiarray")
CORES = ("numpy.core", "numpy._core")


def save(value, path, names=(), **options) -> None:
    """torch.save, with other *names* for modules in the pickle."""
    file = io.BytesIO()
    torch.save(value, file, **options)

    def renamed(pickled):
        for old, new in dict(names).items():
            assert f"c{old}.".encode() in pickled or f"c{old}\n".encode() in pickled  # c: what follows is a global
            pickled = pickled.replace(f"c{old}".encode(), f"c{new}".encode())
        return pickled

    if not zipfile.is_zipfile(file):
        path.write_bytes(renamed(file.getvalue()))
        return
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(path, "w") as after:
        for entry in before.infolist():
            content = before.read(entry)
            after.writestr(entry, renamed(content) if entry.filename.endswith("/data.pkl") else content)


def old_meters() -> OrderedDict:
    """Meters of a training as fairseq up to 0.9 saved them; a file names their module ``fairseq.meters``."""
    states = {
        "train_loss": ("AverageMeter", {"val": torch.tensor(3.5), "avg": 4.0, "sum": 8.0, "count": 2}),
        "wps": ("TimeMeter", {"init": 0, "start": 1577836800.0, "n": 100}),
        "train_wall": ("StopwatchMeter", {"sum": 1.5, "n": 2, "start_time": None}),
    }
    made = OrderedDict()
    for name, (kind, state) in states.items():
        made[name] = getattr(meters, kind)()
        made[name].__dict__ = state
    return made


OLD_METERS = {"fairseq.logging.meters": "fairseq.meters"}
