"""The Bayesian mixture over all sub-networks of a model, under the LayerDrop prior.

A LayerDrop training draws sub-networks m with the probability w(m), the product of 1 - p over the layers kept and of p
over those dropped. With the trained weights frozen, these are the hypotheses of a Bayesian learner, and w is its prior.
"The Universality Lens" (Feder, Urbanke and Fogel, 2506.07661) says what such a learner pays for not knowing the best
hypothesis: not the number of hypotheses counts, but the prior weight of those that are about as good.

Code lengths are -log P, in nats here; L_m is that of sub-network m.
"""

import itertools
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch.nn import functional
from tqdm import tqdm

from ..base.errors import UserError
from ..base.files import write_atomically
from ..plan import Structure, Unit, units_of
from ..running.engine import Engine
from ..running.measures import target_logits
from ..running.scorer import difference

FORMAT = "fairseq-layerdrop mixture parts"
# Tokens that are looked at together, so that what is computed for them stays small.
_CHUNK = 256
_SECONDS_BETWEEN_LINES = 30


@dataclass(frozen=True)
class Hypotheses:
    """Sub-networks, each once, with their prior weights.

    Attributes:
        kept: which of the model's L layers each of the M sub-networks keeps, M x L, in ascending order of the rows. So
            sub-networks that begin alike follow each other, and an engine that runs them in this order shares the most.
        log_weights: log w(m) of each, in nats, float64; the weights sum to one.
        log_full: log w of the full network, in nats, exact also where the others are drawn.
        draws: how many were drawn from the prior, repeated ones counted; None where these are all there are.
    """

    kept: numpy.ndarray
    log_weights: numpy.ndarray
    log_full: float
    draws: int | None = None

    def __len__(self) -> int:
        return len(self.kept)


def _check_rates(rates: Sequence[float]) -> numpy.ndarray:
    rates = numpy.asarray(rates, dtype=float)
    if not ((rates >= 0) & (rates < 1)).all() or not rates.any():
        raise UserError(
            "the prior needs a LayerDrop rate above 0 and below 1 for the layers that may be skipped; see --rate"
        )
    return rates


def every_sub_network(rates: Sequence[float]) -> Hypotheses:
    """All sub-networks that LayerDrop can draw, also the one in which it skips every layer.

    Args:
        rates: the LayerDrop rate of each layer; those of rate 0 are in every sub-network.

    Raises:
        UserError: a rate isn't in [0, 1), or all are 0.
    """
    rates = _check_rates(rates)
    kept = numpy.array(list(itertools.product(*([False, True] if rate else [True] for rate in rates))))
    free = rates > 0
    log_weights = numpy.where(kept[:, free], numpy.log1p(-rates[free]), numpy.log(rates[free])).sum(axis=1)
    return Hypotheses(kept, log_weights, numpy.log1p(-rates).sum())


def sampled_sub_networks(rates: Sequence[float], draws: int, seed: int) -> Hypotheses:
    """Sub-networks drawn from the prior: 1/*draws* is the weight of each draw.

    A sub-network that is drawn k times is there once, with the weight k/draws; so -log w(m) is at most log(draws).

    Raises:
        UserError: a rate isn't in [0, 1), or all are 0.
    """
    rates = _check_rates(rates)
    drawn = numpy.random.default_rng(seed).random((draws, len(rates))) >= rates
    kept, counts = numpy.unique(drawn, axis=0, return_counts=True)
    return Hypotheses(kept, numpy.log(counts / draws), numpy.log1p(-rates).sum(), draws)


def _log_sum_exp(values: numpy.ndarray) -> numpy.ndarray:
    """log of the sum of exp over the first axis."""
    return torch.logsumexp(torch.from_numpy(values), dim=0).numpy()


@dataclass(frozen=True)
class CodeLengths:
    """Code lengths of the first n tokens for n = 1 … N, in nats, float64, of shape N each.

    Attributes:
        full: of the full network.
        best: of the sub-network that is the best of these n tokens, in hindsight.
        static: of the average of the predictions by the prior weights, -sum_t log sum_m w(m) P_m(y_t).
        mixture: of the Bayes mixture, -log Q = -log sum_m w(m) exp(-L_m). By the chain rule it is what a learner pays
            who predicts token by token, with sum_m w_t(m) P_m(y_t), w_t being the posterior after the tokens before.
        map: of predicting each token by the sub-network of the largest posterior weight after the tokens before.
        bound: min_m {L_m - log w(m)}, which the mixture never exceeds.
        best_mask: the number of the best sub-network, of those of the same length the first.
        totals: L_m of all N tokens, of shape M.
    """

    full: numpy.ndarray
    best: numpy.ndarray
    static: numpy.ndarray
    mixture: numpy.ndarray
    map: numpy.ndarray
    bound: numpy.ndarray
    best_mask: numpy.ndarray
    totals: numpy.ndarray

    @property
    def regret(self) -> numpy.ndarray:
        """What the mixture pays more than the best sub-network; at most -log w of this."""
        return self.mixture - self.best


def code_lengths(log_probs: numpy.ndarray, full: numpy.ndarray, log_weights: numpy.ndarray) -> CodeLengths:
    """Code lengths of every beginning of a text.

    Args:
        log_probs: log P_m(y_t | y_<t) in nats, M x N, tokens in the text's order.
        full: the same of the full network, N.
        log_weights: log w(m), M; the weights sum to one.
    """
    totals = numpy.zeros(len(log_weights))  # of log-probabilities, of the tokens before the chunk
    per_token = {"static": [], "map": []}
    per_prefix = {"best": [], "mixture": [], "bound": [], "best_mask": []}
    for start in range(0, log_probs.shape[1], _CHUNK):
        chunk = log_probs[:, start : start + _CHUNK].astype(numpy.float64)
        after = totals[:, None] + numpy.cumsum(chunk, axis=1)
        before = numpy.concatenate([totals[:, None], after[:, :-1]], axis=1)
        joint = log_weights[:, None] + after  # log w(m) - L_m
        leader = numpy.argmax(log_weights[:, None] + before, axis=0)
        per_token["static"].append(-_log_sum_exp(log_weights[:, None] + chunk))
        per_token["map"].append(-chunk[leader, numpy.arange(chunk.shape[1])])
        per_prefix["best"].append(-after.max(axis=0))
        per_prefix["best_mask"].append(after.argmax(axis=0))
        per_prefix["mixture"].append(-_log_sum_exp(joint))
        per_prefix["bound"].append(-joint.max(axis=0))
        totals = after[:, -1]
    return CodeLengths(
        full=-numpy.cumsum(full, dtype=numpy.float64),
        totals=-totals,
        **{name: numpy.cumsum(numpy.concatenate(values)) for name, values in per_token.items()},
        **{name: numpy.concatenate(values) for name, values in per_prefix.items()},
    )


def log_posterior(totals: numpy.ndarray, log_weights: numpy.ndarray) -> numpy.ndarray:
    """log w(m | text) of each sub-network, in nats.

    Args:
        totals: L_m in nats, M.
        log_weights: log w(m), M.
    """
    joint = log_weights - totals
    return joint - _log_sum_exp(joint)


def expected_code_length(totals: numpy.ndarray, log_weights: numpy.ndarray) -> tuple[float, float]:
    """E_w[L_m], what LayerDrop's training minimises, and KL(w || posterior), both in nats.

    E_w[L_m] = -log Q + KL(w || w(.|text)): the training loss is an upper bound on the mixture's code length, and tight
    if all sub-networks are equally good.
    """
    weights = numpy.exp(log_weights)
    gap = weights @ (log_weights - log_posterior(totals, log_weights))
    return float(weights @ totals), float(gap)


def weight_within(
    distances: numpy.ndarray, hypotheses: Hypotheses, radii: Sequence[float]
) -> tuple[numpy.ndarray, numpy.ndarray | None]:
    """W(epsilon), the prior weight of the sub-networks that are at most *radii* away from the full network.

    Where sub-networks are drawn, the full network's own weight w is known and not estimated: W = w + (1 - w) q, where q
    is the share of the other draws that are within.

    Args:
        distances: mean KL(p_full || p_m) per token of each sub-network, M, in the unit of the radii.
        hypotheses: the sub-networks.
        radii: the R values of epsilon, at least 0.

    Returns:
        W, of shape R, and its standard error, (1 - w) times the :func:`wilson_error` of q; None where W is exact.
    """

    def within(weights: numpy.ndarray) -> numpy.ndarray:
        return numpy.array([weights[distances <= radius].sum() for radius in radii])

    weights = numpy.exp(hypotheses.log_weights)
    if hypotheses.draws is None:
        return numpy.minimum(within(weights), 1.0), None  # not 1 + rounding
    counts = numpy.where(hypotheses.kept.all(axis=1), 0, numpy.rint(weights * hypotheses.draws))
    draws = counts.sum()  # of others than the full network
    shares = within(counts) / max(draws, 1)
    rest = 1 - numpy.exp(hypotheses.log_full)
    return 1 - rest * (1 - shares), rest * wilson_error(shares, draws)


def wilson_error(shares: numpy.ndarray, draws: int) -> numpy.ndarray:
    """The standard error of shares q of n draws: half of Wilson's (1927) interval of one standard error each way.

    It is sqrt(n q (1 - q) + 1/4) / (n + 1): near sqrt(q (1 - q) / n), but above 0 also where no draw hits, or each.
    """
    return numpy.sqrt(draws * shares * (1 - shares) + 0.25) / (draws + 1)


def prefix_lengths(tokens: int, most: int = 64) -> numpy.ndarray:
    """Numbers from 1 to *tokens* at about equal ratios, *most* at most."""
    return numpy.unique(numpy.geomspace(1, tokens, most).round().astype(int))


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
            for name, value in run.items():
                if known.get(name) != value:
                    told = difference(name, known.get(name), value)
                    raise UserError(f"{folder} is of another run: {told}; give another DIR, or remove it")
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
    engine: Engine, plans: Sequence[Sequence[Unit]], pad: int, bar: tqdm | None = None
) -> dict[str, numpy.ndarray]:
    """What sub-networks say of one batch.

    Args:
        engine: runs the model on this batch alone.
        plans: the units that each sub-network keeps, those that begin alike next to each other.
        pad: index of the padding symbol.
        bar: told of each plan.

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
        if bar is not None:
            bar.update()
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
    told = time.monotonic()
    with tqdm(total=len(samples) * len(plans), unit=" plans", desc="mixture", disable=None) as bar:
        bar.update((len(samples) - len(missing)) * len(plans))
        for number in missing:
            arrays = score_batch(Engine(model, structure, [samples[number]], memory), plans, pad, bar)
            if not numpy.isfinite(arrays["log_probs"]).all():
                raise UserError("a sub-network gives a target token no probability; the model or the data is broken")
            parts.write(number, **arrays)
            if bar.disable and time.monotonic() - told > _SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                print(f"{number + 1:,} of {len(samples):,} batches, {len(plans):,} sub-networks each", flush=True)
    return _together(parts, len(samples))


def _together(parts: Parts, count: int) -> Scores:
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
    kl = sum(arrays["kl"] for arrays in small) / len(order)
    return Scores(log_probs, numpy.concatenate([arrays["full"] for arrays in small])[order], kl)
