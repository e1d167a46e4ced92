"""Ways to choose what to remove, one file each, imported when it is used.

Each is a function from a :class:`~..problem.SelectionProblem` to a :class:`~..problem.Selection`, in the module of its
name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from ...running.settings import GENERATED

if TYPE_CHECKING:
    from ..problem import Selection, SelectionProblem


@dataclass(frozen=True)
class Method:
    """A way to choose what to remove.

    Attributes:
        name: as ``--method`` knows it.
        sublayers: whether it removes sub-layers and not layers; None where that is for the user to say.
        protects: how many first and last layers of a stack it doesn't remove unless it is told to.
        metrics: by what it scores plans, the default first; none for methods that look at the data once.
        options: what else the method knows, with defaults.
    """

    name: str
    sublayers: bool | None = False
    protects: tuple[int, int] = (0, 0)
    metrics: tuple[str, ...] = ()
    options: Mapping[str, float | None] = field(default_factory=dict)

    def __call__(self, problem: "SelectionProblem") -> "Selection":
        name = self.name.replace("-", "_")
        return getattr(import_module(f".{name}", __package__), name)(problem)


METHODS = {
    method.name: method
    for method in (
        Method("contribution", options={"threshold": None}),
        Method("block-influence"),
        Method("angular"),
        Method("relative-magnitude"),
        Method("taylor", protects=(4, 2)),
        Method("similarity", sublayers=True),
        Method("sleb", protects=(1, 1), metrics=("loss",)),
        Method("blockpruner", sublayers=True, metrics=("loss",)),
        Method(
            "finercut",
            sublayers=True,
            metrics=("js", "js-reversed", "kl", "angular", "norm"),
            options={"protect_share": 0.4},
        ),
        Method(
            "search",
            sublayers=None,
            metrics=("loss", *GENERATED),
            options={"max_plans": 5000, "beam_width": 8},
        ),
        Method("learned"),
    )
}
