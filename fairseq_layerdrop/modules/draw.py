"""Which groups a training forward pass skips: draws from a counter-based generator of their own."""

import numpy as np


def draw_skips(rates, *, seed: int, stream: int, update: int, micro_batch: int) -> list[bool]:
    """Draw for each group whether this forward pass skips it.

    The draw depends on the arguments alone: it is the same on every rank and after a restart, and neither uses nor
    disturbs any other random numbers. It comes from Philox (Salmon et al. 2011), whose key is (seed, stream) and whose
    counter holds (update, micro_batch), so that different arguments never share random numbers.

    Args:
        rates: for each group the probability that it is skipped; 0 never skips and 1 always does.
        seed: the run's seed, any integer (taken modulo 2**64).
        stream: tells the stacks of a model apart.
        update: number of updates done before this one.
        micro_batch: number of this forward pass within its update (``--update-freq``).

    Returns:
        one truth value a group, True where it is skipped.
    """
    uniform = _generator(seed, stream, update, micro_batch).random(len(rates))
    return [bool(u < rate) for u, rate in zip(uniform, rates)]


def draw_one(weights, *, seed: int, stream: int, update: int, micro_batch: int) -> int:
    """Draw a number below ``len(weights)``, with probabilities in proportion to *weights*; see :func:`draw_skips`."""
    shares = np.cumsum(np.asarray(weights, dtype=float))
    uniform = _generator(seed, stream, update, micro_batch).random()
    return min(int(np.searchsorted(shares, uniform * shares[-1], side="right")), len(weights) - 1)


def _generator(seed: int, stream: int, update: int, micro_batch: int) -> np.random.Generator:
    key = np.array([seed % 2**64, stream], dtype=np.uint64)
    counter = np.array([0, 0, micro_batch, update], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
