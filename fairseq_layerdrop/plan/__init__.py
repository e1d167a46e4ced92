"""What to keep of a model: the Plan value, the ``--prune-layers`` grammar, the rules and plan files.

Needs neither torch nor fairseq.
"""

from .errors import PlanError
from .grammar import LEARNED, Choice, PruneSpec, drop_spec, parse
from .heads import heads_of, sub_layer
from .ladder import Ladder, Unit, plan_without, unit_name, units_of
from .plan import (
    STACKS,
    SUB_LAYERS,
    Details,
    Layer,
    Plan,
    StackPlan,
    Structure,
    format_layers,
    matching,
    transformer_structure,
)
from .plan_file import (
    LADDER_FORMAT,
    PlanFile,
    plan_from_dict,
    plan_to_dict,
    read_format,
    read_ladder,
    read_plan,
    write_ladder,
    write_plan,
)
from .plan_list import parse_plans
from .rules import RULES
from .sharing import chunks_left, chunks_of

__all__ = [
    "LADDER_FORMAT",
    "LEARNED",
    "RULES",
    "STACKS",
    "SUB_LAYERS",
    "Choice",
    "Details",
    "Ladder",
    "Layer",
    "Plan",
    "PlanError",
    "PlanFile",
    "PruneSpec",
    "StackPlan",
    "Structure",
    "Unit",
    "chunks_left",
    "chunks_of",
    "drop_spec",
    "format_layers",
    "heads_of",
    "matching",
    "parse",
    "parse_plans",
    "plan_from_dict",
    "plan_to_dict",
    "plan_without",
    "read_format",
    "read_ladder",
    "read_plan",
    "sub_layer",
    "transformer_structure",
    "unit_name",
    "units_of",
    "write_ladder",
    "write_plan",
]
