"""The results as an SVG drawing for the README: a bar for each row shows how much of its target the row uses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

_WIDTH: Final = 900
_BARS_AT: Final = 490
_TARGET_AT: Final = 670
"""Where the bar of a value that just meets its target ends."""
_BARS_END: Final = 750
_TOP: Final = 70
_ROW: Final = 28

_STYLE: Final = """
    svg { --paper: #ffffff; --edge: #d0d7de; --ink: #1f2328; --faint: #59636e; --met: #2da44e; --missed: #bc4c00; }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --faint: #9198a1; --met: #3fb950; --missed: #ff9b4a; }
    }
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
    .heading { font-size: 15px; font-weight: 600; }
    .faint { fill: var(--faint); font-size: 12px; }
    .end { text-anchor: end; }
    .middle { text-anchor: middle; }
    .paper { fill: var(--paper); stroke: var(--edge); }
    .met { fill: var(--met); }
    .missed { fill: var(--missed); }
    .spread { stroke: var(--ink); stroke-width: 1.5; }
    .target { stroke: var(--faint); stroke-dasharray: 4 4; }
"""


def draw(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of rows of `measurements.json`. A bar that ends left of the dashed line meets its target."""
    height = _TOP + _ROW * len(rows) + 20
    drawn = [line for number, row in enumerate(rows) for line in _row(row, _TOP + _ROW * number)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "  <title>Every measurement beside its target</title>",
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="paper" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
            '  <text class="heading" x="20" y="30">How much of its target each measurement uses</text>',
            '  <text class="faint" x="20" y="50">Bar: the median; line on it: from the best to the worst</text>',
            f'  <text class="faint middle" x="{_TARGET_AT}" y="50">target</text>',
            *drawn,
            f'  <path class="target" d="M{_TARGET_AT} 56 V{height - 16}"/>',
            "</svg>",
            "",
        ]
    )


def _row(row: Mapping[str, Any], top: int) -> list[str]:
    used = sorted(_share_used(value, row) for value in row["values"])
    best, middle, worst = (_x(share) for share in (used[0], _share_used(row["value"], row), used[-1]))
    value = f"{row['value']:.3g} {row['unit']}".rstrip()
    kind = "met" if row["met"] else "missed"
    return [
        f'  <text x="20" y="{top + 17}">{escape(row["name"])}</text>',
        f'  <rect class="{kind}" x="{_BARS_AT}" y="{top + 6}" width="{max(2, middle - _BARS_AT)}" height="14" rx="2"/>',
        f'  <path class="spread" d="M{best} {top + 13} H{worst}"/>',
        f'  <text class="end" x="{_WIDTH - 20}" y="{top + 13}">{escape(value)}</text>',
        f'  <text class="end faint" x="{_WIDTH - 20}" y="{top + 25}">{escape(row["target"])}</text>',
    ]


def _share_used(value: float, row: Mapping[str, Any]) -> float:
    """Return 1 for a value at its limit, less for a better one. A row that only has to complete is at 1 or infinite."""
    if row["high"] is not None:
        return value / float(row["high"])
    if row["low"] is not None:
        return float(row["low"]) / value if value else math.inf
    return 1.0 if row["met"] else math.inf


def _x(share: float) -> int:
    return round(min(_BARS_AT + share * (_TARGET_AT - _BARS_AT), _BARS_END))
