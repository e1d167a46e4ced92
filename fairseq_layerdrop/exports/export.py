"""Writing a pruned model that stands alone."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from ..base.errors import UserError
from ..plan import parse
from ..surgery.checkpoint import Checkpoint
from .formats import FORMATS, Format, Source, format_of


def _check_output(checkpoint, output, writes: Format, force: bool) -> None:
    """Refuse to write over what is no such export, or what nobody said to replace.

    Raises:
        UserError: it is to stay.
    """
    if not os.path.exists(output):
        return
    if os.path.exists(checkpoint) and os.path.samefile(output, checkpoint):
        raise UserError(f"OUT is the checkpoint itself, {output}; give another name")
    if writes.files:
        names = os.listdir(output) if os.path.isdir(output) else []
        others = [name for name in names if name not in writes.files and "vocabulary" not in name]
        if writes.files[0] not in names or others:
            raise UserError(f"{output} exists and is not, or not only, {writes.noun}; give another name")
    elif not os.path.isfile(output):
        raise UserError(f"{output} exists and is not a file; give another name")
    if not force:
        raise UserError(f"{output} exists; give another name, or --force to replace it")


@contextlib.contextmanager
def _exit_on(*signals: int) -> Iterator[None]:
    """Let these signals end the program as an exception does, so that what is unfinished is cleared away."""
    before = {number: signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def export(
    checkpoint, output, prune_layers: str | None = None, format: str = "fairseq", ema: bool = False,
    force: bool = False, **options: str | None,
) -> list[str]:  # fmt: skip
    """Write a pruned model that stands alone, or the plan to prune it.

    Args:
        checkpoint: a fairseq checkpoint (``.pt``).
        output: the file to write; of ``ctranslate2`` and ``huggingface``, the folder.
        prune_layers: what to keep; all of it by default.
        format: one of :data:`~.formats.FORMATS`.
        ema: take the moving average of the weights that ``--store-ema`` keeps.
        force: replace *output* if it is an export of this format.
        options: of the format: ``data``, folder with the dictionaries, by default that of the training;
            ``quantization``; ``classification_head_name``; ``bpe_model`` or ``gpt2_bpe``.

    Returns:
        what was written, in lines.

    Raises:
        UserError: the checkpoint or an argument is wrong, the model can't be of this format, or *output* is to stay.
    """
    writes, options = format_of(format), {name: value for name, value in options.items() if value is not None}
    for name in options:
        if name not in writes.options:
            formats = " and ".join(other for other in FORMATS if name in format_of(other).options)
            raise UserError(f"--{name.replace('_', '-')} is for --format {formats}")
    spec = parse(prune_layers) if prune_layers is not None else None
    _check_output(checkpoint, output, writes, force)
    loaded = Checkpoint.load(checkpoint)
    if ema:
        loaded.averaged_weights  # noqa: B018 - tells at once that there are none
    source = Source(loaded, loaded.plan(spec), prune_layers, ema)
    with _exit_on(signal.SIGTERM, signal.SIGHUP) if writes.files else contextlib.nullcontext():
        return writes.write(source, output, **options)
