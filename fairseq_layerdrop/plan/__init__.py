"""What to keep of a model: the Plan value, the ``--prune-layers`` grammar and the rules.

Needs neither torch nor fairseq.
"""

from .errors import PlanError, UserError
from .grammar import Choice, PruneSpec, parse
from .plan import STACKS, Plan, StackPlan, format_layers
from .rules import RULES

__all__ = [
    "RULES",
    "STACKS",
    "Choice",
    "Plan",
    "PlanError",
    "PruneSpec",
    "StackPlan",
    "UserError",
    "format_layers",
    "parse",
]
