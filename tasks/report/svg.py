"""A chart as SVG: small, without ids that clash on one page, in the colours of the page around it, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from base64 import b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#123456"  # stands for the colour of the page's text; no series has it
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 9, "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"], "text.color": _INK, "axes.labelcolor": _INK,
    "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.15, "grid.color": _INK,
}  # fmt: skip


def as_svg(figure: Figure, name: str) -> str:
    """An SVG element. Its ids depend on `name`, since all charts are on one page."""
    from matplotlib import rc_context

    with rc_context(STYLE | {"svg.hashsalt": name, "svg.id": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have characters that no font of this machine has
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _compact(buffer.getvalue())


def _compact(svg: str) -> str:
    """The element alone, in the colour of its page, without what no reader of the picture can see."""
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    # Tenths of a point, in paths only: a label may be a number too.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]).replace("\n", ""), svg)
    return re.sub(r">\s+<", "><", svg)


def as_data_url(svg: str) -> str:
    """A chart as the URL of a picture, in a grey that is visible on light and dark pages."""
    grey = svg.replace("currentColor", "#808080").encode()
    return f"data:image/svg+xml;base64,{b64encode(grey).decode()}"
