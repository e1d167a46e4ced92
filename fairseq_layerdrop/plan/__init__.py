"""What to keep of a model: the Plan value, the ``--prune-layers`` grammar, the rules and plan files.

Needs neither torch nor fairseq.
"""

from .choice import LEARNED, Choice, ListedChoice
from .errors import PlanError
from .grammar import PruneSpec, drop_spec, parse
from .ladder import Ladder, Unit, plan_without, unit_name, units_of
from .parts import SUB_LAYERS, Item, Layer, SubLayer, format_numbers
from .plan import NO_FACTS, STACKS, ModelFacts, Plan, StackPlan, Structure, transformer_structure
from .plan_file import LADDER_FORMAT, PlanFile, read_format, read_ladder, read_plan, write_ladder, write_plan
from .plan_json import plan_from_dict, plan_to_dict
from .plan_list import parse_plans
from .rules import RULES
from .sharing import chunks_left, chunks_of

__all__ = [
    "LADDER_FORMAT",
    "LEARNED",
    "NO_FACTS",
    "RULES",
    "STACKS",
    "SUB_LAYERS",
    "Choice",
    "Item",
    "Ladder",
    "Layer",
    "ListedChoice",
    "ModelFacts",
    "Plan",
    "PlanError",
    "PlanFile",
    "PruneSpec",
    "StackPlan",
    "Structure",
    "SubLayer",
    "Unit",
    "chunks_left",
    "chunks_of",
    "drop_spec",
    "format_numbers",
    "parse",
    "parse_plans",
    "plan_from_dict",
    "plan_to_dict",
    "plan_without",
    "read_format",
    "read_ladder",
    "read_plan",
    "transformer_structure",
    "unit_name",
    "units_of",
    "write_ladder",
    "write_plan",
]
