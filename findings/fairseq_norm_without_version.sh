#!/usr/bin/env bash
# fairseq-fixed 0.12.3.1 (fairseq's main branch): the weights of a pre-norm Transformer without their `version` entries.
#
# Expected: the weights load as they are, or an error tells that an entry is missing. All weights are there; `version` is a
# buffer that no computation uses, and tools that rename or average weights leave it out.
# Behaviour: load_state_dict, strict as it is, takes it for a model of 2017. It drops the last layer norm of the encoder and of the decoder,
# with the weights that the file has for them, says nothing, and computes something else.
# Output seen: encoder norm gone: True, decoder norm gone: True; same output: False
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
from fairseq.models.transformer import TransformerModel, tiny_architecture

torch.manual_seed(1)
settings = Namespace(encoder_normalize_before=True, decoder_normalize_before=True)
tiny_architecture(settings)
dictionary = Dictionary()
task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
model = TransformerModel.build_model(settings, task).eval()
with torch.no_grad():
    for norm in (model.encoder.layer_norm, model.decoder.layer_norm):
        norm.weight.add_(1)
other = copy.deepcopy(model)
weights = {key: value for key, value in model.state_dict().items() if not key.endswith("version")}
other.load_state_dict(weights, strict=True)
tokens = torch.tensor([[3, 3, 2]])
with torch.no_grad():
    ours, theirs = (m(tokens, torch.tensor([3]), tokens)[0] for m in (model, other))
gone = [other.encoder.layer_norm is None, other.decoder.layer_norm is None]
same = torch.equal(ours, theirs)
print("encoder norm gone: {}, decoder norm gone: {}; same output: {}".format(*gone, same))
sys.exit(gone != [True, True] or same)
PYTHON
