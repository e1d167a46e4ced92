"""A byte-level BPE that several tests use."""

import json

import pytest
from fairseq.data.encoders.gpt2_bpe_utils import bytes_to_unicode


@pytest.fixture
def byte_level(tmp_path_factory):
    """GPT-2's files for a BPE without merges, in which each byte has its own number."""
    folder = tmp_path_factory.mktemp("gpt2")
    (folder / "encoder.json").write_text(json.dumps({char: byte for byte, char in bytes_to_unicode().items()}))
    (folder / "vocab.bpe").write_text("#version: 0.2\n\n")
    return folder
