"""Tables in Markdown."""

from collections.abc import Sequence

from tabulate import tabulate


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, without an end of line.

    Args:
        headings: one a column.
        rows: cells, one a column, as they are to be shown.
        left: how many of the columns are of text and stand to the left; the others stand to the right.
    """
    alignment = ["left"] * left + ["right"] * (len(headings) - left)
    return str(tabulate(rows, headings, tablefmt="pipe", colalign=alignment, disable_numparse=True))
