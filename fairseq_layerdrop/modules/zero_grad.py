"""An identity that gives other tensors a zero gradient."""

import torch


class _IdentityWithZeroGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *tensors):
        ctx.save_for_backward(*tensors)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        zeros = (
            torch.zeros_like(tensor) if needed else None
            for tensor, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[1:])
        )
        return grad, *zeros


def identity_with_zero_grad(x, tensors):
    """Return *x* unchanged, and in the backward pass give each of *tensors* a gradient of zeros.

    A skipped layer's parameters thereby stay in the autograd graph: DistributedDataParallel reduces them as any others
    and needs no ``find_unused_parameters``, and the optimizer treats them alike on one process and on many. Nothing is
    computed with them.

    Args:
        x: any tensor; only its gradient passes through.
        tensors: iterable of tensors; those that don't require a gradient get none.
    """
    return _IdentityWithZeroGrad.apply(x, *tensors)
