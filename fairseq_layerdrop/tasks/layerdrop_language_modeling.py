"""``layerdrop_language_modeling``: fairseq's language modeling task with ``--prune-layers``."""

import logging
from dataclasses import dataclass
from typing import Optional

from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask
from omegaconf import OmegaConf

from ..base.errors import UserError
from .prunable import PrunableTask, prunable_version_of, prune_layers_field
from .self_teaching import TeachingConfig

logger = logging.getLogger(__name__)


@dataclass
class LayerDropLanguageModelingConfig(LanguageModelingConfig, TeachingConfig):
    prune_layers: Optional[str] = prune_layers_field()


@register_task("layerdrop_language_modeling", dataclass=LayerDropLanguageModelingConfig)
class LayerDropLanguageModelingTask(PrunableTask, LanguageModelingTask):
    """Language modeling whose models can be pruned as they are built; loads checkpoints of stock models too.

    fairseq-eval-lm, which asks no checkpoint for its settings, cuts the text into blocks as the model was trained with.
    """

    @classmethod
    def add_args(cls, parser):
        if parser.get_default("context_window") is not None:  # fairseq-eval-lm
            # fairseq leaves out the dataclass's own where the parser has one; 0 stands for the checkpoint's.
            parser.add_argument(
                "--tokens-per-sample", type=int, default=0, metavar="N",
                help="tokens of a block (default: those of the model's training)",
            )  # fmt: skip
        super().add_args(parser)

    def build_model(self, cfg, from_checkpoint=False):
        if from_checkpoint:
            self._take_blocks(cfg)
        return super().build_model(cfg, from_checkpoint)

    def _take_blocks(self, cfg) -> None:
        """Where no ``--tokens-per-sample`` is given, take that of the training of a model with configuration *cfg*.

        Raises:
            UserError: there is nothing left of a block beside the context that it is to have.
        """
        trained, bos = (_of_training(cfg, name) for name in ("tokens_per_sample", "add_bos_token"))
        if bos is not None and bos != self.args.add_bos_token:
            logger.warning(f"the model was trained with{'' if bos else 'out'} --add-bos-token; this runs it otherwise")
        given = self.args.tokens_per_sample
        if given > 0:
            return
        trained = trained or LanguageModelingConfig.tokens_per_sample
        if trained + given < 1:  # fairseq-eval-lm has taken --context-window off
            raise UserError(f"--context-window {-given} leaves nothing of the model's blocks of {trained} tokens")
        self.args.tokens_per_sample = trained + given
        logger.info(f"blocks of {trained} tokens, as the model was trained with")

    def eval_lm_dataloader(self, dataset, max_positions=None, context_window=0, **kwargs):
        """fairseq's, which leaves out blocks that the model can't take, for data that it takes whole.

        Raises:
            UserError: a block is too long, and ``--skip-invalid-size-inputs-valid-test`` doesn't say to leave it out.
        """
        run = self.args._get_parent() if OmegaConf.is_config(self.args) else None
        skip = run is not None and OmegaConf.select(run, "dataset.skip_invalid_size_inputs_valid_test")
        too_long = 0 if max_positions is None or skip else int((dataset.sizes + context_window > max_positions).sum())
        if too_long:
            shorter = self.args.tokens_per_sample + context_window > max_positions
            mend = [f"--tokens-per-sample {max_positions}"] * shorter
            mend += ["--sample-break-mode none"] * (self.args.sample_break_mode != "none")
            raise UserError(
                f"{too_long} of {len(dataset)} blocks, up to {dataset.sizes.max() + context_window} tokens long, don't "
                f"fit the model, which takes {max_positions}; give {' '.join(mend)}"
            )
        return super().eval_lm_dataloader(dataset, max_positions=max_positions, context_window=context_window, **kwargs)


def _of_training(cfg, name: str):
    """A setting of the task that trained the model with configuration *cfg*; None where it isn't known."""
    run = cfg._get_parent() if OmegaConf.is_config(cfg) else None
    return getattr(cfg, name, None) if run is None else OmegaConf.select(run, f"task.{name}")


prunable_version_of("language_modeling", "layerdrop_language_modeling")
