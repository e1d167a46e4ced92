"""Whether anybody wants to see a module called."""

from torch.nn.modules import module as of_torch


def is_watched(*modules) -> bool:
    """Whether somebody sees or changes calls of *modules*: by a hook of one or of all modules, or a ``forward`` put on.

    What watches must see the calls that fairseq makes, with the shapes that these have. Hooks of gradients don't count:
    they aren't called in a pass without.
    """
    if of_torch._global_forward_hooks or of_torch._global_forward_pre_hooks:
        return True
    return any(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in modules)
