"""What the README names exists and means something."""

import re

import pytest
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

from fairseq_layerdrop.plan import parse, transformer_structure
from tests.commands import ROOT

README = (ROOT / "README.md").read_text()
SPECS = sorted(
    set(re.findall(r"(?:(?:encoder|decoder)=)?(?:keep|drop):[\w,@.-]*\w(?:/decoder=keep:[\w,@-]+)?", README))
)


def test_specs_are_found():
    assert len(SPECS) > 8


@pytest.mark.parametrize("spec", SPECS)
def test_spec_is_in_the_grammar(spec):
    if spec != "keep:COUNT@RULE" and spec != "drop:COUNT@RULE":
        parse(spec).resolve(transformer_structure({"encoder": 16, "decoder": 16}))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"layerdrop_transformer\w*", README))))
def test_architecture_is_registered(name):
    assert name in ARCH_MODEL_REGISTRY


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--task (layerdrop_\w+)", README))))
def test_task_is_registered(name):
    assert name in TASK_REGISTRY


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:scripts|configs)/[\w/]+\.\w+", README))))
def test_file_is_there(path):
    assert (ROOT / path).is_file()
