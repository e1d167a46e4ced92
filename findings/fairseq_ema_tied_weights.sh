#!/usr/bin/env bash
# fairseq-fixed 0.12.3.1 (fairseq's main branch): --store-ema and weights that have several names.
#
# Expected: with a decay of 0.9 an average goes a tenth of the way to the new weights in an update, whatever they are
# called.
# Behaviour: the average is updated once for each name in the state dict. A Transformer with --share-all-embeddings has
# its embeddings under three names, and their average goes 1 - 0.9^3 of the way.
# Output seen: embeddings 0.271, another weight 0.100
#
# Installs into a temporary folder, and compiles for some minutes where pip hasn't got the wheel; exit status 1 where
# fairseq behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==1.26.4 cython==3.3.1 setuptools==84.2.1 wheel==0.48.0
pip --no-build-isolation fairseq-fixed==0.12.3.1
"$folder/venv/bin/python" - 2> /dev/null << 'PYTHON' || { echo "fairseq behaves otherwise now" >&2; exit 1; }
import copy
import sys
from argparse import Namespace
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import EMAConfig
from fairseq.models.ema.ema import EMA
from fairseq.models.transformer import TransformerModel, tiny_architecture

settings = Namespace(share_all_embeddings=True)
tiny_architecture(settings)
dictionary = Dictionary()
task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
model = TransformerModel.build_model(settings, task)
average, after = EMA(model, EMAConfig(store_ema=True, ema_decay=0.9)), copy.deepcopy(model)
with torch.no_grad():
    for parameter in after.parameters():
        parameter.add_(1)
average.step(after, 1)
keys = ("encoder.embed_tokens.weight", "encoder.layers.0.fc1.weight")
moved = [
    f"{float((average.get_model().state_dict()[key] - model.state_dict()[key]).mean()):.3f}" for key in keys
]
print("embeddings {}, another weight {}".format(*moved))
sys.exit(moved != ["0.271", "0.100"])
PYTHON
