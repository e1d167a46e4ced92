"""What TorchScript compiles in place of our modules: those of fairseq."""

from .sub_layers import uncheckpoint, view_of


def _twin(module, twins: dict):
    if module not in twins:
        twin = twins[module] = view_of(module)
        uncheckpoint(twin)
        twin.__class__ = vars(type(module)).get("scripted_as", type(module))
        twin._modules = {name: part and _twin(part, twins) for name, part in module._modules.items()}
    return twins[module]


class ScriptedAsFairseq:
    """Mixed into a module that computes what one of fairseq's does, but by Python that TorchScript can't compile.

    ``torch.jit.script`` compiles a twin instead: the same parameters in fairseq's classes, all the way down. It drops
    nothing, as scripts of fairseq's own LayerDrop don't, and the module itself stays as it is.

    Attributes:
        scripted_as: fairseq's class that does the same; where a class names none, its instances keep theirs.
    """

    def __prepare_scriptable__(self):
        return _twin(self, {})
