"""What all pictures share."""

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import UserError
from ..base.files import StrPath, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito (2008): distinct for colour-blind eyes too.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK)


def pyplot() -> Any:
    """matplotlib's pyplot, for files alone.

    Raises:
        UserError: matplotlib isn't installed.
    """
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq sets the root logger to tell everything
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("pictures need matplotlib; pip install 'fairseq-layerdrop[plot]'") from error
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fairseq-layerdrop"  # the same picture is the same file
    from matplotlib import pyplot

    return pyplot


def encoded(figure: "Figure", kind: str) -> bytes:
    """A figure as ``png`` or ``svg``; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def save(figures: "Mapping[str, Figure]", folder: StrPath) -> list[Path]:
    """Write figures as NAME.png and NAME.svg, and close them."""
    paths = [Path(folder) / f"{name}.{kind}" for name in figures for kind in ("png", "svg")]
    for path in paths:
        with write_atomically(path) as file:
            file.write(encoded(figures[path.stem], path.suffix[1:]))
    close(figures)
    return paths


def close(figures: "Mapping[str, Figure]") -> None:
    """Free what figures hold."""
    for figure in figures.values():
        pyplot().close(figure)
