"""Checkpoints of fairseq that stand alone, and plan files."""

from ..plan import write_plan
from ..surgery.checkpoint_file import save_checkpoint
from ..surgery.config import SUBLAYERS_SETTING
from ..surgery.export import export_checkpoint, pruned_settings
from ..surgery.history import fingerprint
from ..version import __version__
from .formats import Source


def told_of(source: Source, architecture: str, lacks: str | None = None) -> str:
    """What was written, in a line."""
    return f"{source.plan}; architecture {architecture}" + (f", without {lacks}" if lacks else "")


class FairseqFormat:
    """A checkpoint; of stock fairseq where whole layers are dropped, or none."""

    options: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    noun = "a checkpoint"

    def write(self, source: Source, path) -> list[str]:
        settings = pruned_settings(source.checkpoint, source.plan)
        save_checkpoint(export_checkpoint(source.checkpoint, source.plan, source.ema), path)
        return [told_of(source, settings.arch, getattr(settings, SUBLAYERS_SETTING, None))]


class PlanFormat:
    """A plan file, with the fingerprint of the weights that it is for."""

    options: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    noun = "a plan"

    def write(self, source: Source, path) -> list[str]:
        checkpoint = source.checkpoint
        weights = fingerprint(checkpoint.averaged_weights) if source.ema else checkpoint.fingerprint
        origin = {"spec": source.spec, "checkpoint": weights, "ema": source.ema, "version": __version__}
        write_plan(source.plan, path, origin)
        return [str(source.plan)]
