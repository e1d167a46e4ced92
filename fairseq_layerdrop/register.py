"""Importing this module registers our models and tasks with fairseq, and applies our changes to fairseq."""

import logging
import os

# Importing fairseq sets the root logger to DEBUG; its commands take their level from LOGLEVEL, and so do we.
logging.getLogger(__package__).setLevel(os.environ.get("LOGLEVEL", "INFO").upper())
# fairseq's tasks say at level INFO that tensorboardX is missing, before any command has said anything.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)

from . import models, tasks  # noqa: E402, F401
from .fairseq_fixes import apply_fixes  # noqa: E402

apply_fixes()
