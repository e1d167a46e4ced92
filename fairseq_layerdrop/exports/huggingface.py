"""Pruned models for Hugging Face's transformers."""

import os

from fairseq.models import ARCH_MODEL_NAME_REGISTRY

from ..imports.tokens import TOKENIZER_FILES
from ..surgery.architectures import ExportError
from ..surgery.export import export_checkpoint, pruned_settings
from .formats import Source
from .language_models import language_model
from .returned import is_imported, returned
from .roberta import head_of, labels_of, roberta_model
from .standalone import told_of
from .transformers_folder import check_whole_layers, library, write_model
from .translation_models import translation_model


class HuggingFaceFormat:
    """A folder for transformers."""

    options = ("data", "classification_head_name", "bpe_model", "gpt2_bpe", "imported")
    files = ("model.safetensors", "config.json", "generation_config.json", "dict.txt", *TOKENIZER_FILES)
    noun = "an exported model for transformers"

    def write(
        self, source: Source, path, data: str | None = None, classification_head_name: str | None = None,
        bpe_model: str | None = None, gpt2_bpe: str | None = None, imported: str | None = None,
    ) -> list[str]:  # fmt: skip
        library()
        settings = pruned_settings(source.checkpoint, source.plan, sharing=False)
        check_whole_layers(settings)
        kind = ARCH_MODEL_NAME_REGISTRY.get(settings.arch, settings.arch).removeprefix("layerdrop_")
        folder = str(data or getattr(settings, "data", "")).split(os.pathsep)[0]
        if imported is None and bpe_model is None and gpt2_bpe is None and is_imported(folder):
            imported = folder
        state = export_checkpoint(source.checkpoint, source.plan, source.ema)["model"]
        if imported is not None:
            head = head_of(state, classification_head_name)
            trained = head is not None and not is_imported(folder) and os.path.isdir(os.path.join(folder, "label"))
            labels = labels_of(folder, len(state[f"classification_heads.{head}.out_proj.weight"])) if trained else None
            model = returned(settings, state, imported, head, labels)
        elif kind == "roberta":
            model = roberta_model(settings, state, folder, classification_head_name, bpe_model, gpt2_bpe)
        elif kind in ("transformer", "bart"):
            model = translation_model(settings, state, folder, bpe_model, gpt2_bpe)
        elif kind == "transformer_lm":
            if bpe_model is not None:
                raise ExportError("transformers has no tokenizer that cuts with SentencePiece and begins with </s>")
            model = language_model(settings, state, folder, gpt2_bpe)
        else:
            kinds = "roberta, transformer, bart and transformer_lm"
            raise ExportError(f"--format huggingface takes models of the kinds {kinds}, not {kind}")
        write_model(model, path)
        [architecture] = model.config["architectures"]
        return [told_of(source, architecture), *model.notes]
