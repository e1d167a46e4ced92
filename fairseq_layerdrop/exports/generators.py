"""What translation models and language models of fairseq share on their way to Hugging Face's transformers.

Of transformers' classes that compute the same function, one is chosen that computes it after ``save_pretrained`` too.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence

import torch
from fairseq.modules import SinusoidalPositionalEmbedding

from ..surgery.architectures import ExportError
from ..surgery.config import FAIRSEQ_EPS, norm_eps
from .transformers_folder import ACTIVATIONS

SPECIAL = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}


def refuse(settings: Namespace, more: Sequence[tuple[object, str]]) -> None:
    """Refuse what no class has a place for, and for all of *more* that holds.

    Raises:
        ExportError: there is something.
    """

    def given(name):
        return getattr(settings, name, None)

    reasons = [
        (given("activation_fn") not in ACTIVATIONS, f"the activation {given('activation_fn')}"),
        (norm_eps(settings) != FAIRSEQ_EPS, "layer norms with an eps of their own (--layer-norm-eps)"),
        (given("adaptive_input"), "adaptive inputs (--adaptive-input)"),
        (given("adaptive_softmax_cutoff"), "an adaptive softmax (--adaptive-softmax-cutoff)"),
        (given("character_embeddings"), "character embeddings (--character-embeddings)"),
        (given("no_token_positional_embeddings"), "models without positions (--no-token-positional-embeddings)"),
        (given("quant_noise_pq"), "quantisation noise (--quant-noise-pq)"),
        (given("base_layers"), "mixtures of experts (--base-layers)"),
        *(
            (given(name), f"--{name.replace('_', '-')}")
            for name in ("scale_attn", "scale_fc", "scale_heads", "scale_resids", "cross_self_attention")
        ),
        *more,
    ]
    found = [what for is_so, what in reasons if is_so]
    if found:
        raise ExportError(f"transformers can't take {'; nor '.join(found)}")


def plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """*state* in the precision that fairseq computes with, without what fairseq notes of itself."""
    return {
        key: tensor.to(torch.float32)
        for key, tensor in state.items()
        if not key.endswith(("version", "_float_tensor", "embed_positions.weights"))
    }


def sinusoids(count: int, width: int) -> torch.Tensor:
    """fairseq's table of positions, whose row 2 is that of a text's first symbol."""
    return SinusoidalPositionalEmbedding.get_embedding(count + 2, width, padding_idx=1)
