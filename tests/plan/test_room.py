"""The plan room stands alone."""

from tests.commands import run


def test_imports_neither_torch_nor_fairseq():
    run(
        "python", "-c",
        "import sys; from fairseq_layerdrop import plan; plan.parse('keep:1,2');"
        "assert not {'torch', 'fairseq', 'numpy'} & sys.modules.keys()",
    )  # fmt: skip
