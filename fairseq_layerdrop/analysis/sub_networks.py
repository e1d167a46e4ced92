"""Running all sub-networks of a model on a text, batch by batch."""

import itertools
import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch.nn import functional

from ..base.errors import UserError
from ..base.files import write_atomically
from ..base.journal import check_same_run
from ..base.progress import Progress
from ..plan import Structure, Unit, units_of
from ..running.engine import Engine
from ..running.measures import target_logits
from .codes import Hypotheses

FORMAT = "fairseq-layerdrop mixture parts"
# Tokens that are looked at together, so that what is computed for them stays small.
_CHUNK = 256


@dataclass(frozen=True)
class Scores:
    """What the sub-networks say of a text.

    Attributes:
        log_probs: log-probability of each target token in nats, M x N, float32, tokens in the text's order.
        full: the same of the full network, N.
        kl: KL(p_full || p_m) in nats, mean over tokens, M.
    """

    log_probs: numpy.ndarray
    full: numpy.ndarray
    kl: numpy.ndarray


class Parts:
    """The scores of each batch in a file, which is there as a whole or not at all; a run started again reads them.

    Args:
        folder: for the files of one model.
        run: what the scores are of: model, data, prior. Those of another run are refused.

    Raises:
        UserError: the folder holds those of another run, or can't be written.
    """

    def __init__(self, folder: Path, run: Mapping):
        self.folder = folder
        head = folder / "run.json"
        run = json.loads(json.dumps(run))
        if head.exists():
            try:
                found = json.loads(head.read_text(encoding="utf-8"))
                known = dict(found["run"])
                if found["format"] != FORMAT:
                    raise ValueError
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{head} doesn't describe parts of a mixture; remove {folder}") from error
            check_same_run(folder, known, run, "give another DIR, or remove it")
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
        with write_atomically(head) as file:
            file.write(json.dumps({"format": FORMAT, "run": run}, indent=1).encode() + b"\n")

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npz"

    def __contains__(self, number: int) -> bool:
        return self._path(number).exists()

    def write(self, number: int, **arrays: numpy.ndarray) -> None:
        with write_atomically(self._path(number)) as file:
            numpy.savez(file, **arrays)

    def read(self, number: int, *names: str) -> dict[str, numpy.ndarray]:
        """These arrays of a batch.

        Raises:
            UserError: the file is damaged.
        """
        path = self._path(number)
        try:
            with numpy.load(path) as arrays:
                return {name: arrays[name] for name in names}
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged; remove it") from error

    def remove(self) -> None:
        for path in (*self.folder.glob("[0-9]*.npz"), self.folder / "run.json"):
            path.unlink()
        with suppress(OSError):  # something else is in it, like what a killed run was writing
            self.folder.rmdir()


def _kl_sum(log_p: torch.Tensor, log_q: torch.Tensor) -> float:
    """KL(p || q) in nats, summed over tokens; never below 0, as rounding could have it."""
    return max(0.0, float((log_p.exp() * (log_p - log_q)).sum(dim=-1).double().sum()))


@torch.inference_mode()
def score_batch(
    engine: Engine, plans: Sequence[Sequence[Unit]], pad: int, progress: Progress | None = None
) -> dict[str, numpy.ndarray]:
    """What sub-networks say of one batch.

    Args:
        engine: runs the model on this batch alone.
        plans: the units that each sub-network keeps, those that begin alike next to each other.
        pad: index of the padding symbol.
        progress: is updated after each plan.

    Returns:
        ``log_probs`` M x N float32 and ``full`` N, log-probabilities of the target tokens, row by row; ``kl`` M, the
        sum over tokens of KL(p_full || p_m); all in nats; and ``sentence`` N, the row's number in the dataset.
    """
    (sample,) = engine.samples
    wanted = sample["target"].ne(pad)
    targets = sample["target"][wanted]

    def predictions(plan):
        """Log-probabilities of the vocabulary, chunk by chunk of the target tokens."""
        ((output, _),) = engine.outputs(plan)
        logits = target_logits(engine.stacks.model, output, sample, pad)
        return (functional.log_softmax(chunk.float(), dim=-1) for chunk in logits.split(_CHUNK))

    def of_targets(chunk, wanted_targets):
        return chunk.gather(-1, wanted_targets[:, None])[:, 0]

    dense = list(predictions(engine.units(sublayers=False)))
    places = targets.split(_CHUNK)
    log_probs = numpy.empty((len(plans), len(targets)), dtype=numpy.float32)
    kl = numpy.zeros(len(plans))
    for row, plan in enumerate(plans):
        said = []
        for log_p, log_q, place in zip(dense, predictions(plan), places):
            said.append(of_targets(log_q, place))
            kl[row] += _kl_sum(log_p, log_q)
        log_probs[row] = torch.cat(said).cpu().numpy()
        if progress is not None:
            progress.update()
    return {
        "log_probs": log_probs,
        "full": torch.cat([of_targets(log_p, place) for log_p, place in zip(dense, places)]).cpu().numpy(),
        "kl": kl,
        "sentence": sample["id"].repeat_interleave(wanted.sum(dim=1)).cpu().numpy(),
    }


def table_bytes(masks: int, tokens: int) -> int:
    """Bytes that the log-probabilities of so many sub-networks and tokens take."""
    return masks * tokens * numpy.dtype(numpy.float32).itemsize


def walk(
    model, structure: Structure, samples: Sequence[Mapping], hypotheses: Hypotheses, pad: int, parts: Parts,
    memory: int = 2**30,
) -> Scores:  # fmt: skip
    """Run all sub-networks on a text, one batch after the other.

    Args:
        model: a fairseq Transformer in evaluation mode, a language model or an encoder-decoder.
        structure: its stacks, each with its layers.
        samples: batches as fairseq's datasets collate them, on the model's device.
        hypotheses: the sub-networks, over all the model's layers in the order in which they run.
        pad: index of the padding symbol.
        parts: keeps what is done.
        memory: bytes that stored hidden states may take.

    Raises:
        UserError: a log-probability isn't a number, or a file can't be written.
    """
    units = units_of(structure, sublayers=False)
    plans = [tuple(itertools.compress(units, kept)) for kept in hypotheses.kept]
    missing = [number for number in range(len(samples)) if number not in parts]
    done = (len(samples) - len(missing)) * len(plans)
    with Progress("mixture", "plans", len(samples) * len(plans), done) as progress:
        for number in missing:
            arrays = score_batch(Engine(model, structure, [samples[number]], memory), plans, pad, progress)
            if not numpy.isfinite(arrays["log_probs"]).all():
                raise UserError("a sub-network gives a target token no probability; the model or the data is broken")
            parts.write(number, **arrays)
    return _concatenate_parts(parts, len(samples))


def _concatenate_parts(parts: Parts, count: int) -> Scores:
    """The scores of all batches, tokens in the order of the sentences in the dataset."""
    small = [parts.read(number, "full", "kl", "sentence") for number in range(count)]
    order = numpy.argsort(numpy.concatenate([arrays["sentence"] for arrays in small]), kind="stable")
    places = numpy.empty_like(order)
    places[order] = numpy.arange(len(order))  # where each token goes
    log_probs = numpy.empty((len(small[0]["kl"]), len(order)), dtype=numpy.float32)
    start = 0
    for number in range(count):
        of_batch = parts.read(number, "log_probs")["log_probs"]
        log_probs[:, places[start : start + of_batch.shape[1]]] = of_batch
        start += of_batch.shape[1]
    kl = numpy.asarray(sum(arrays["kl"] for arrays in small)) / len(order)
    return Scores(log_probs, numpy.concatenate([arrays["full"] for arrays in small])[order], kl)
