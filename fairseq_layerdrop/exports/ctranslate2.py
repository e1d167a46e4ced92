"""Pruned models for CTranslate2, through its own converter of fairseq checkpoints."""

import copy
import json
import logging
import os
import shutil
import tempfile
from argparse import Namespace
from pathlib import Path

from fairseq.data.data_utils import infer_language_pair
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from fairseq.models.transformer import DEFAULT_MAX_SOURCE_POSITIONS, DEFAULT_MAX_TARGET_POSITIONS

from ..base.errors import UserError
from ..base.files import write_folder_atomically
from ..surgery.architectures import ExportError
from ..surgery.checkpoint_file import save_checkpoint
from ..surgery.config import EPS_SETTING, FAIRSEQ_EPS, OUTPUT_BIAS_SETTING, SUBLAYERS_SETTING
from ..surgery.export import export_checkpoint, pruned_settings
from .formats import Source
from .standalone import told_of

_MODELS = ("bart", "transformer", "transformer_lm")
# The file in a model's folder that tells of its limits.
LIMITS = "limits.json"
_ACTIVATIONS = ("gelu", "gelu_accurate", "gelu_fast", "relu", "swish")


def _library():
    try:
        import ctranslate2.converters
        from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES
    except ImportError as error:
        raise ExportError("ctranslate2 isn't installed; pip install 'fairseq-layerdrop[ctranslate2]'") from error
    return ctranslate2.converters.FairseqConverter, ACCEPTED_MODEL_TYPES


def settings_for_ctranslate2(settings: Namespace, data: str | None, quantization: str | None) -> Namespace:
    """The settings with which CTranslate2's converter is to load a model.

    It is refused here, before any work, if the converter can't take it or would take it for another one.

    Args:
        settings: the pruned model's, from :func:`~fairseq_layerdrop.surgery.pruned_settings`.
        data: folder with the dictionaries of the model; None for the one of the training.
        quantization: type of the converted weights; None for float32.

    Raises:
        ExportError: saying what CTranslate2, or the folder, lacks.
    """

    def given(name, default=None):
        return getattr(settings, name, default)

    _, types = _library()
    kind = ARCH_MODEL_NAME_REGISTRY.get(settings.arch, settings.arch).removeprefix("layerdrop_")
    reasons = [
        (given("activation_fn", "relu") not in _ACTIVATIONS, f"the activation {given('activation_fn')}"),
        (given("adaptive_input"), "adaptive inputs (--adaptive-input)"),
        (given("adaptive_softmax_cutoff"), "an adaptive softmax (--adaptive-softmax-cutoff)"),
        (given("character_embeddings"), "character embeddings (--character-embeddings)"),
        (given("no_token_positional_embeddings"), "models without positions (--no-token-positional-embeddings)"),
        (given("quant_noise_pq"), "quantisation noise (--quant-noise-pq)"),
        (given(EPS_SETTING) not in (None, FAIRSEQ_EPS), "layer norms with an eps of their own (--layer-norm-eps)"),
        (given(OUTPUT_BIAS_SETTING), "biases of logits (--decoder-output-bias)"),
        (given("base_layers"), "mixtures of experts (--base-layers)"),
        *(
            (given(option), f"--{option.replace('_', '-')}")
            for option in ("scale_attn", "scale_fc", "scale_heads", "scale_resids", "cross_self_attention")
        ),
    ]
    if kind != "transformer_lm":
        pairs = ("normalize_before", "attention_heads", "embed_dim")
        reasons += [
            (
                given(f"encoder_{name}") != given(f"decoder_{name}"),
                f"an encoder and a decoder that differ in --encoder-{name} and --decoder-{name}".replace("_", "-"),
            )
            for name in pairs
        ]
        reasons += [
            (given("no_cross_attention"), "decoders that don't attend to the encoder (--no-cross-attention)"),
            (given("no_decoder_final_norm"), "decoders without their last norm (--no-decoder-final-norm)"),
            (
                len({given(f"decoder_{name}_dim", given("decoder_embed_dim")) for name in ("input", "output", "embed")})
                > 1,
                "decoders whose --decoder-input-dim or --decoder-output-dim differs from --decoder-embed-dim",
            ),
        ]
    if given(SUBLAYERS_SETTING):
        raise ExportError("CTranslate2 can't take layers without some of their sub-layers or heads; drop whole layers")
    if kind not in _MODELS:
        raise ExportError(f"--format ctranslate2 takes models of the kinds {', '.join(_MODELS)}, not {kind}")
    found = [what for is_so, what in reasons if is_so]
    if found:
        raise ExportError(f"CTranslate2 can't take {'; nor '.join(found)}")
    if quantization is not None and quantization not in types:
        raise ExportError(f"CTranslate2 has no weights of type '{quantization}', only {', '.join(types)}")
    return _with_dictionaries(settings, data)


def _with_dictionaries(settings: Namespace, data: str | None) -> Namespace:
    """A copy of *settings* that tells the folder of the dictionaries and the languages."""
    found = copy.copy(settings)
    found.data = str(data or getattr(settings, "data", "")).split(os.pathsep)[0]
    names = ["dict.txt"]
    if hasattr(settings, "source_lang"):
        if found.source_lang is None and os.path.isdir(found.data):  # fairseq infers them from names of files
            found.source_lang, found.target_lang = infer_language_pair(found.data)
        if found.source_lang is None:
            raise ExportError(
                f"no binarised data in '{found.data}' that tells the languages; give its folder with --data"
            )
        names = [f"dict.{language}.txt" for language in (found.source_lang, found.target_lang)]
    for name in names:
        if not os.path.isfile(os.path.join(found.data, name)):
            raise ExportError(f"no {name} in '{found.data}'; give the folder of the model's dictionaries with --data")
    return found


def ctranslate2_limits(settings: Namespace) -> dict[str, dict[str, int]]:
    """The arguments of CTranslate2's calls with which a model stays within its positions, by the names of the calls.

    CTranslate2's own are the same for all models: of a longer input it cuts off the rest without a word, and beyond a
    model's positions it fails with the whole batch. A translation is as long as the longest of fairseq.

    Args:
        settings: see :func:`settings_for_ctranslate2`.
    """
    longest = getattr(settings, "max_target_positions", None)
    if ARCH_MODEL_NAME_REGISTRY.get(settings.arch, settings.arch) == "transformer_lm":
        longest = longest or getattr(settings, "tokens_per_sample", None) or DEFAULT_MAX_TARGET_POSITIONS
        return {"generate_batch": {"max_length": longest}, "score_batch": {"max_input_length": longest}}
    longest = longest or DEFAULT_MAX_TARGET_POSITIONS
    source = getattr(settings, "max_source_positions", None) or DEFAULT_MAX_SOURCE_POSITIONS
    return {
        "translate_batch": {"max_input_length": source, "max_decoding_length": longest - 1},
        "score_batch": {"max_input_length": min(source, longest)},
    }


def convert_to_ctranslate2(checkpoint: dict, settings: Namespace, path, quantization: str | None = None) -> None:
    """Write a CTranslate2 model directory, with its limits; it appears whole or not at all.

    Args:
        checkpoint: an exported one, from :func:`~fairseq_layerdrop.surgery.export_checkpoint`.
        settings: from :func:`settings_for_ctranslate2`.
        path: the directory to write; if it exists, it is replaced.
        quantization: ``int8``, ``int8_float32``, ``float16``, …; None for float32.

    Raises:
        ExportError: the dictionaries are of another size than the model's.
        UserError: the directory can't be written.
    """
    converter, _ = _library()
    logging.getLogger("fairseq.tasks").setLevel(logging.WARNING)  # each dictionary it loads
    try:
        with tempfile.TemporaryDirectory() as scratch:
            intermediate, made = Path(scratch, "model.pt"), Path(scratch, "model")
            save_checkpoint({**checkpoint, "args": settings, "cfg": None}, intermediate)
            try:
                converter(str(intermediate), settings.data).convert(str(made), quantization=quantization)
            except OSError:
                raise
            except Exception as error:  # of the model's loading or of the dictionaries: fairseq raises all kinds
                if "size mismatch" in str(error):
                    raise ExportError(f"the dictionaries in '{settings.data}' are not those of this model") from None
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise ExportError(f"CTranslate2's converter failed: {reason}") from error
            with write_folder_atomically(path) as staged:
                shutil.copytree(made, staged, dirs_exist_ok=True)
                Path(staged, LIMITS).write_text(json.dumps(ctranslate2_limits(settings), indent=2) + "\n")
    except ExportError:
        raise
    except (OSError, UserError) as error:
        reason = getattr(error.__cause__ or error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}") from error


class CTranslate2Format:
    """A folder for CTranslate2, with the limits of the model."""

    options = ("data", "quantization")
    files = ("model.bin", "config.json", LIMITS)
    noun = "a CTranslate2 model"

    def write(self, source: Source, path, data: str | None = None, quantization: str | None = None) -> list[str]:
        settings = pruned_settings(source.checkpoint, source.plan, sharing=False)
        settings = settings_for_ctranslate2(settings, data, quantization)
        exported = export_checkpoint(source.checkpoint, source.plan, source.ema)
        convert_to_ctranslate2(exported, settings, path, quantization)
        calls = (
            f"{call}({', '.join(f'{name}={limit}' for name, limit in limits.items())})"
            for call, limits in ctranslate2_limits(settings).items()
        )
        return [
            told_of(source, settings.arch),
            f"its limits, which CTranslate2 wants to be told at each call ({LIMITS}): {', '.join(calls)}",
        ]
