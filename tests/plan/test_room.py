"""The plan room stands alone."""

from tests.commands import USER_DIR, run


def test_imports_neither_torch_nor_fairseq():
    run(
        "python", "-c",
        f"import sys; sys.path.insert(0, {USER_DIR!r}); import plan; plan.parse('keep:1-1');"
        "assert not {'torch', 'fairseq', 'numpy'} & sys.modules.keys()",
    )  # fmt: skip
