"""Ways to choose what to remove, one file each.

Each is a function from a :class:`~..problem.SelectionProblem` to a :class:`~..problem.Selection`.
"""

from .angular import angular
from .block_influence import block_influence
from .blockpruner import blockpruner
from .contribution import contribution
from .finercut import finercut
from .learned import learned
from .relative_magnitude import relative_magnitude
from .search import search
from .similarity import similarity
from .sleb import sleb
from .taylor import taylor

# Name -> function, whether its units are sub-layers (None: as asked for), and first and last layers it protects.
METHODS = {
    "contribution": (contribution, False, (0, 0)),
    "block-influence": (block_influence, False, (0, 0)),
    "angular": (angular, False, (0, 0)),
    "relative-magnitude": (relative_magnitude, False, (0, 0)),
    "taylor": (taylor, False, (4, 2)),
    "similarity": (similarity, True, (0, 0)),
    "sleb": (sleb, False, (1, 1)),
    "blockpruner": (blockpruner, True, (0, 0)),
    "finercut": (finercut, True, (0, 0)),
    "search": (search, None, (0, 0)),
    "learned": (learned, False, (0, 0)),
}

__all__ = ["METHODS"]
