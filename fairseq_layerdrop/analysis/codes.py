"""The Bayesian mixture over all sub-networks of a model, under the LayerDrop prior: its code lengths.

A LayerDrop training draws sub-networks m with the probability w(m), the product of 1 - p over the layers kept and of p
over those dropped. With the trained weights frozen, these are the hypotheses of a Bayesian learner, and w is its prior.
"The Universality Lens" (Feder, Urbanke and Fogel, 2506.07661) says what such a learner pays for not knowing the best
hypothesis: not the number of hypotheses counts, but the prior weight of those that are about as good.

Code lengths are -log P, in nats here; L_m is that of sub-network m.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy
import torch

from ..base.errors import UserError

# Tokens that are looked at together, so that what is computed for them stays small.
_CHUNK = 256


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
    checked = numpy.asarray(rates, dtype=float)
    if not ((checked >= 0) & (checked < 1)).all() or not checked.any():
        raise UserError(
            "the prior needs a LayerDrop rate above 0 and below 1 for the layers that may be skipped; see --rate"
        )
    return checked


def every_sub_network(rates: Sequence[float]) -> Hypotheses:
    """All sub-networks that LayerDrop can draw, also the one in which it skips every layer.

    Args:
        rates: the LayerDrop rate of each layer; those of rate 0 are in every sub-network.

    Raises:
        UserError: a rate isn't in [0, 1), or all are 0.
    """
    drop = _check_rates(rates)
    kept = numpy.array(list(itertools.product(*([False, True] if rate else [True] for rate in drop))))
    free = drop > 0
    log_weights = numpy.where(kept[:, free], numpy.log1p(-drop[free]), numpy.log(drop[free])).sum(axis=1)
    return Hypotheses(kept, log_weights, numpy.log1p(-drop).sum())


def sampled_sub_networks(rates: Sequence[float], draws: int, seed: int) -> Hypotheses:
    """Sub-networks drawn from the prior: 1/*draws* is the weight of each draw.

    A sub-network that is drawn k times is there once, with the weight k/draws; so -log w(m) is at most log(draws).

    Raises:
        UserError: a rate isn't in [0, 1), or all are 0.
    """
    drop = _check_rates(rates)
    drawn = numpy.random.default_rng(seed).random((draws, len(drop))) >= drop
    kept, counts = numpy.unique(drawn, axis=0, return_counts=True)
    return Hypotheses(kept, numpy.log(counts / draws), numpy.log1p(-drop).sum(), draws)


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
    per_token: dict[str, list[numpy.ndarray]] = {"static": [], "map": []}
    per_prefix: dict[str, list[numpy.ndarray]] = {"best": [], "mixture": [], "bound": [], "best_mask": []}
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
    distances: numpy.ndarray, hypotheses: Hypotheses, radii: Iterable[float]
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
