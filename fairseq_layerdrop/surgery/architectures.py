"""Names of architectures and tasks: ours, stock fairseq's and those of users, and which stands for which."""

from collections.abc import Mapping
from dataclasses import fields

from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY

from ..base.errors import UserError

# What our versions of fairseq's architectures and tasks begin with, and the packages that hold both.
_PREFIX = "layerdrop_"
_OURS = __name__.partition(".")[0]
_FAIRSEQ = "fairseq"


class ExportError(UserError):
    """A checkpoint that can't be exported as asked."""


def _package(thing) -> str:
    """The package in which a class or a function was written."""
    return thing.__module__.partition(".")[0]


def is_stock(thing) -> bool:
    """Whether a class or a function is fairseq's own."""
    return _package(thing) == _FAIRSEQ


def _registered_base(cls: type, registry: Mapping[str, type], package: str = _FAIRSEQ) -> str:
    """Name of the nearest class of *package* that *cls* derives from; its own where there is none."""
    names = {base: name for name, base in registry.items() if _package(base) == package}
    own = next(name for name, base in registry.items() if base is cls)
    return next((names[base] for base in cls.__mro__ if base in names), own)


def _model_class(name: str) -> type:
    """The class of the models of architecture *name*.

    Raises:
        ExportError: nothing that was imported has it.
    """
    if name not in ARCH_MODEL_REGISTRY:
        raise ExportError(f"unknown architecture '{name}'; name the plugin that has it with --user-dir")
    return ARCH_MODEL_REGISTRY[name]


def _is_of(package: str, name: str) -> bool:
    """Whether *package* has the class of architecture *name*, and its sizes aren't a user's."""
    sizes = ARCH_CONFIG_REGISTRY.get(name)
    return _package(_model_class(name)) == package and (sizes is None or _package(sizes) in (_FAIRSEQ, _OURS))


def stock_architecture(name: str) -> str:
    """The architecture of stock fairseq in which a whole model of architecture *name* is the same model.

    A model class of a user's own keeps its architecture: what it computes isn't known.

    Raises:
        ExportError: nothing that was imported has *name*.
    """
    cls = _model_class(name)
    if _is_of(_FAIRSEQ, name) or _package(cls) not in (_FAIRSEQ, _OURS):
        return name
    model, same_name = _registered_base(cls, MODEL_REGISTRY), name.removeprefix(_PREFIX)
    same = ARCH_MODEL_REGISTRY.get(same_name) is MODEL_REGISTRY[model] and _is_of(_FAIRSEQ, same_name)
    return same_name if same else model


def our_architecture(name: str) -> str:
    """Our version of architecture *name*, or *name* where it is of a class derived from ours.

    Raises:
        ExportError: we have none, or nothing that was imported has *name*.
    """
    cls = _model_class(name)
    if _is_of(_OURS, name):
        return name
    if _package(cls) == _OURS:
        return _registered_base(cls, MODEL_REGISTRY, _OURS)
    if any(_package(base) == _OURS for base in cls.__mro__):
        return name
    if _PREFIX + name in ARCH_MODEL_REGISTRY:
        return _PREFIX + name
    ours = {model: base for model, base in MODEL_REGISTRY.items() if _package(base) == _OURS}
    for model, base in ours.items():
        if cls in base.__mro__:
            return model
    families = ", ".join(sorted(model.removeprefix(_PREFIX) for model in ours))
    raise ExportError(f"sub-layers can be left out of models of the kinds {families}, and this one is {name}")


def stock_choice(registry: Mapping[str, type], name: str) -> str | None:
    """The stock fairseq class, by name, that *name* stands for in a registry, as that of criterions, or derives from.

    None where there is no such, or nothing that was imported has *name*.
    """
    found = _registered_base(registry[name], registry) if name in registry else None
    return found if found and is_stock(registry[found]) else None


def stock_task(name: str) -> str:
    """The task of stock fairseq that task *name* derives from; *name* where nothing that was imported has it."""
    return _registered_base(TASK_REGISTRY[name], TASK_REGISTRY) if name in TASK_REGISTRY else name


def settings_of_task(name: str) -> set[str]:
    """Names of the settings of task *name*; none where it isn't known or has no dataclass."""
    dataclass = TASK_DATACLASS_REGISTRY.get(name)
    return {field.name for field in fields(dataclass)} if dataclass else set()
