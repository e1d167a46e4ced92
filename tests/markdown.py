"""Tables in Markdown, read."""

import re


def lines_of(markdown: str) -> list[str]:
    """Its lines, without the spaces that make a table's columns even."""
    return [re.sub(" +", " ", line) for line in markdown.splitlines()]
