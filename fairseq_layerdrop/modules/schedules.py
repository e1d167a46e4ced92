"""LayerDrop rates by depth and by time.

Each schedule is a factor in [0, 1] of the rate that was asked for, so that this is the highest rate of any layer and
any update.
"""

import math

DEPTH_SCHEDULES = ("uniform", "linear", "exponential")
TIME_SCHEDULES = ("constant", "warmup", "progressive")


def depth_factors(schedule: str, depth: int) -> tuple[float, ...]:
    """For each of *depth* layers the part of the rate that it has; the last layer has all of it.

    ``uniform``: 1 (Fan, Grave & Joulin 2020). ``linear``: (l + 1) / L for l = 0..L-1 (stochastic depth, Huang et al.
    2016, section 3, whose layers are counted from 1). ``exponential``: 2^(l / (L - 1)) - 1 (LayerSkip, Elhoushi et al.
    2024, section 4.1), which is 0 for the first layer; a single layer has the whole rate.

    Raises:
        ValueError: there is no such schedule.
    """
    if schedule not in DEPTH_SCHEDULES:
        raise ValueError(f"the depth schedules are {', '.join(DEPTH_SCHEDULES)}, not '{schedule}'")
    if schedule == "linear":
        return tuple((layer + 1) / depth for layer in range(depth))
    if schedule == "exponential" and depth > 1:
        return tuple(2 ** (layer / (depth - 1)) - 1 for layer in range(depth))
    return (1.0,) * depth


def time_factor(schedule: str, update: int, warmup_updates: int = 0, gamma: float = 0.001) -> float:
    """The part of the rate that is in force after *update* updates.

    ``constant``: 1. ``warmup``: rises linearly from 0 to 1 in *warmup_updates*. ``progressive``: 1 - e^(-gamma *
    update), which is Progressive Layer Dropping's schedule of keep rates theta(t) = (1 - theta) e^(-gamma t) + theta
    (Zhang & He 2020) where the rate asked for is 1 - theta; they take theta = 0.5 and gamma = 0.001, with the linear
    depth schedule.

    Raises:
        ValueError: there is no such schedule, or its constants are not positive.
    """
    if schedule not in TIME_SCHEDULES:
        raise ValueError(f"the time schedules are {', '.join(TIME_SCHEDULES)}, not '{schedule}'")
    if schedule == "warmup":
        if warmup_updates <= 0:
            raise ValueError("the warmup schedule needs a number of updates of at least 1")
        return min(1.0, update / warmup_updates)
    if schedule == "progressive":
        if gamma <= 0:
            raise ValueError("the progressive schedule needs a gamma above 0")
        return 1 - math.exp(-gamma * update)
    return 1.0
