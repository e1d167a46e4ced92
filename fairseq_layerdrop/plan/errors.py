"""Errors of plans."""

from ..base.errors import UserError


class PlanError(UserError):
    """A ``--prune-layers`` text that is malformed or doesn't fit the model."""
