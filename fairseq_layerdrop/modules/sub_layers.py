"""Sub-layers and heads of fairseq's Transformer layers: which there are, and a layer without some of them.

fairseq's layers compute each sub-layer as ``x + dropout(f(norm(x)))`` (pre-norm) or ``norm(x + dropout(f(x)))``
(post-norm). With the norm gone and zero in place of f, both are x: the identity. The zero is a scalar, so that nothing
is computed but its addition.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from fairseq.modules import MultiheadAttention
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import nn
from torch.nn.functional import linear

# The attributes of a layer that make up each sub-layer; those of fairseq's NormFormer options are there on request.
_MODULES = {
    "self_attn": ("self_attn", "self_attn_layer_norm", "attn_ln", "c_attn"),
    "encoder_attn": ("encoder_attn", "encoder_attn_layer_norm"),
    "ffn": ("fc1", "fc2", "final_layer_norm", "ffn_layernorm", "w_resid"),
}
ATTENTIONS = ("self_attn", "encoder_attn")

_State = dict[str, dict[str, torch.Tensor | None]] | None


class Zero(nn.Module):
    """In place of a module whose output is added to a residual: returns a zero scalar."""

    def forward(self, x):
        return x.new_zeros(())


class ZeroAttention(Zero):
    """In place of fairseq's MultiheadAttention: attends to nothing and keeps no incremental state.

    TorchScript wants each argument by name and type, and methods that are never called.
    """

    def forward(
        self,
        query,
        key: torch.Tensor | None = None,
        value: torch.Tensor | None = None,
        key_padding_mask: torch.Tensor | None = None,
        incremental_state: _State = None,
        need_weights: bool = True,
        static_kv: bool = False,
        attn_mask: torch.Tensor | None = None,
        before_softmax: bool = False,
        need_head_weights: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return query.new_zeros(()), None

    def _get_input_buffer(self, incremental_state: _State) -> dict[str, torch.Tensor | None]:
        return {}

    def _set_input_buffer(self, incremental_state: _State, buffer: dict[str, torch.Tensor | None]):
        return incremental_state


# What stands where something is still called; everything else is optional in fairseq's layers and becomes None.
_STAND_INS = {
    "self_attn": ZeroAttention,
    "self_attn_layer_norm": nn.Identity,
    "fc1": Zero,
    "fc2": nn.Identity,
    "final_layer_norm": nn.Identity,
}


def sub_layers_of(layer: nn.Module) -> tuple[str, ...]:
    """The sub-layers that *layer* has, in the order in which they run."""
    found = {name: getattr(layer, attributes[0], None) for name, attributes in _MODULES.items()}
    return tuple(name for name, module in found.items() if not (module is None or isinstance(module, Zero)))


def sub_layer_parameters(layer: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters that make up the sub-layer *name* of *layer*."""
    parts = [getattr(layer, attribute, None) for attribute in _MODULES[name]]
    return [
        parameter
        for part in parts
        if part is not None
        for parameter in ([part] if isinstance(part, nn.Parameter) else part.parameters())
    ]


def remove_sublayers(layer: nn.Module, names: Iterable[str]) -> None:
    """Make sub-layers of *layer* the identity; their parameters and norms are gone afterwards.

    Args:
        layer: a Transformer layer of fairseq, or a module with its attributes; changed in place.
        names: of ``self_attn``, ``encoder_attn`` and ``ffn``; those already gone may be among them.
    """
    for name in names:
        for attribute in _MODULES[name]:
            if getattr(layer, attribute, None) is not None:
                stand_in = _STAND_INS.get(attribute)
                setattr(layer, attribute, stand_in() if stand_in else None)


class _Rows(nn.Module):
    """Some outputs of a linear module, with the module's own parameters."""

    def __init__(self, module: nn.Linear, rows: torch.Tensor):
        super().__init__()
        self.module, self.rows = module, rows

    @property
    def weight(self):
        return self.module.weight[self.rows]

    @property
    def bias(self):
        return None if self.module.bias is None else self.module.bias[self.rows]

    def forward(self, x):
        return linear(x, self.weight, self.bias)


class _Columns(nn.Module):
    """A linear module on some of its inputs, with the module's own parameters."""

    def __init__(self, module: nn.Linear, columns: torch.Tensor):
        super().__init__()
        self.module, self.columns = module, columns

    def forward(self, x):
        return linear(x, self.module.weight[:, self.columns], self.module.bias)


def whole(module: nn.Module) -> nn.Module:
    """The module of which *module* computes some rows or columns; itself, if it is none of these."""
    return module.module if isinstance(module, _Rows | _Columns) else module


def view_of(module: nn.Module) -> nn.Module:
    """Another module with the same parts and parameters, whose parts can be replaced without changing *module*."""
    view = copy.copy(module)
    view._modules, view._parameters = dict(module._modules), dict(module._parameters)
    return view


def rows_of_heads(heads: Iterable[int], width: int) -> torch.Tensor:
    """Numbers of the rows that *heads* of a *width* have in an attention's q, k and v projections."""
    return torch.tensor([head * width + i for head in heads for i in range(width)], dtype=torch.long)


def _shrink(attention: MultiheadAttention, heads: Sequence[int], rows, columns) -> None:
    """Let *attention* compute with some of its heads, by functions that take rows and columns of a projection.

    fairseq's attention knows the state in which its inner width isn't that of its input: that of its own head pruning.
    """
    index = rows_of_heads(heads, attention.head_dim).to(attention.out_proj.weight.device)
    for name in ("q_proj", "k_proj", "v_proj"):
        setattr(attention, name, rows(getattr(attention, name), index))
    attention.out_proj = columns(attention.out_proj, index)
    attention.num_heads = len(heads)
    attention.embed_dim = len(index)
    attention._set_skip_embed_dim_check()


def _check_heads(attention: MultiheadAttention, heads: Sequence[int]) -> None:
    if not heads or list(heads) != sorted(set(heads)) or not set(heads) <= set(range(attention.num_heads)):
        raise ValueError(f"heads must be an ascending choice of 0-{attention.num_heads - 1}, not {list(heads)}")
    if attention.bias_k is not None:
        raise ValueError("heads of an attention with bias_k can't be left out")


def remove_heads(attention: MultiheadAttention, heads: Sequence[int]) -> None:
    """Leave *attention*, in place, only some of its *heads*; the parameters of the others are gone afterwards.

    Args:
        attention: changed in place.
        heads: numbers of the heads to keep, ascending, at least one.

    Raises:
        ValueError: there are no such heads, or the attention has a ``bias_k``.
    """
    _check_heads(attention, heads)

    def cut(module: nn.Linear, weight: torch.Tensor, bias) -> nn.Linear:
        smaller = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        smaller.weight = nn.Parameter(weight.detach().clone(), module.weight.requires_grad)
        if bias is not None:
            smaller.bias = nn.Parameter(bias.detach().clone(), module.bias.requires_grad)
        return smaller

    _shrink(
        attention,
        heads,
        lambda module, rows: cut(module, module.weight[rows], None if module.bias is None else module.bias[rows]),
        lambda module, columns: cut(module, module.weight[:, columns], module.bias),
    )


def _with_heads(attention: MultiheadAttention, heads: Sequence[int]) -> MultiheadAttention:
    """What *attention* is with some of its *heads* alone, computed with its own parameters."""
    _check_heads(attention, heads)
    view = view_of(attention)
    _shrink(view, heads, _Rows, _Columns)
    return view


def uncheckpoint(layer: nn.Module) -> bool | None:
    """Take fairseq's ``checkpoint_wrapper`` off *layer*, in place: it is bound to what the layer was when wrapped.

    Returns:
        whether it sent activations to the CPU; None where there was no wrapper.
    """
    if vars(layer).pop("precheckpoint_forward", None) is None:
        return None
    _, offload = vars(layer).pop("forward").args
    return offload


def without(layer: nn.Module, sub_layers: Iterable[str] = (), heads: Mapping[str, Iterable[int]] | None = None):
    """*layer* without some sub-layers and heads: a module of its own, with the parameters of *layer* itself.

    What is left out isn't computed, and gets no gradient; the weights of left-out heads, whose matrices take part, get
    zeros. ``--checkpoint-activations`` goes on for the new module.

    Args:
        layer: a Transformer layer of fairseq; isn't changed.
        sub_layers: names of the sub-layers to leave out.
        heads: for ``self_attn`` or ``encoder_attn`` the numbers of the heads to leave out; not all of them.
    """
    view = view_of(layer)
    offload = uncheckpoint(view)
    for name, dropped in (heads or {}).items():
        attention, dropped = getattr(layer, name), set(dropped)
        kept = [head for head in range(attention.num_heads) if head not in dropped]
        setattr(view, name, _with_heads(attention, kept))
    remove_sublayers(view, sub_layers)
    return view if offload is None else checkpoint_wrapper(view, offload)
