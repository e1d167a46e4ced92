"""Importing this module registers our models and tasks with fairseq, and applies our changes to fairseq."""

import logging
import os
import sys
import warnings

# Importing fairseq sets the root logger to DEBUG; its commands take their level from LOGLEVEL, and so do we.
logging.getLogger(__package__).setLevel(os.environ.get("LOGLEVEL", "INFO").upper())
# fairseq's tasks say at level INFO that tensorboardX is missing, before any command has said anything.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
logging.getLogger("hydra").setLevel(logging.INFO)

# hydra and PyTorch tell how fairseq should call them, and a user can do nothing about it. With -W it is shown.
if not sys.warnoptions:
    warnings.filterwarnings("ignore", category=UserWarning, module=r"hydra\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"fairseq\.")
    for message in (
        r"\s*'config' is validated against ConfigStore schema",
        "'pin_memory' argument is set as true but no accelerator is found",
        "Support for mismatched key_padding_mask and attn_mask is deprecated",
    ):
        warnings.filterwarnings("ignore", message, UserWarning)

from . import models, tasks  # noqa: E402, F401
from .fairseq_fixes import apply_fixes  # noqa: E402

apply_fixes()
