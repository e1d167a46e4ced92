"""State dicts of another model than they are loaded into: what doesn't fit, in one line."""

import re
import types

from ..base.errors import UserError

# torch's words.
_SHAPES = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[([\d, ]+)\]\) from checkpoint, "
    r"the shape in current model is torch\.Size\(\[([\d, ]+)\]\)"
)
_KEYS = re.compile(r'(Missing|Unexpected) key\(s\) in state_dict: "([^"]+)"((?:, "[^"]+")*)')


def _shape_in_words(key: str, theirs: list[int], ours: list[int]) -> str:
    if not key.endswith("embed_tokens.weight"):
        return f"{key} is {' x '.join(map(str, ours))} here, {' x '.join(map(str, theirs))} in the checkpoint"
    words = (
        "the dictionary has {:,} entries here, {:,} in the checkpoint",
        "embeddings are {} wide here, {} in the checkpoint",
    )
    return " and ".join(text.format(*sizes) for text, *sizes in zip(words, ours, theirs) if sizes[0] != sizes[1])


def misfit(error: Exception) -> str | None:
    """What torch's *error* says of a state dict that doesn't fit a model, in few words; None for other errors.

    Sizes come before keys, and of the sizes those of embeddings first.
    """
    shapes = [
        (key, *([int(size) for size in shape.split(",")] for shape in both))
        for key, *both in _SHAPES.findall(str(error))
    ]
    if shapes:
        return _shape_in_words(*min(shapes, key=lambda shape: not shape[0].endswith("embed_tokens.weight")))
    lacks = {"Missing": "it has no", "Unexpected": "this model has no"}
    keys = [(lacks[kind], key, more.count(",")) for kind, key, more in _KEYS.findall(str(error))]
    return " and ".join(f"{words} {key}" + (f" ({more} more)" if more else "") for words, key, more in keys) or None


def load_or_tell(self, state_dict, *args, **kwargs):
    """The ``load_state_dict`` of a model's class; one line ends the program if *state_dict* is of another model."""
    try:
        return type(self).load_state_dict(self, state_dict, *args, **kwargs)
    except RuntimeError as error:
        what = misfit(error)
        if what is None:
            raise
        # fairseq's trainer would bury an exception in its own.
        raise SystemExit(UserError(f"the checkpoint is of another model: {what}").code) from None


def tell_misfits(model) -> None:
    """Let *model*, in place, end the program with one line where it loads a state dict that doesn't fit.

    The method is bound to the instance, so that a deep copy (fairseq's EMA makes one) loads into itself.
    """
    model.load_state_dict = types.MethodType(load_or_tell, model)
