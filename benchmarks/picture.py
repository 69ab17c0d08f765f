"""The results as an SVG drawing for the README.

First the seconds of a daily run, which have no target. Below them a bar for each row shows how much of its target the
row uses.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

from benchmarks.measures import TOLD

_WIDTH: Final = 900
_BARS_AT: Final = 490
_TARGET_AT: Final = 670
"""Where the bar of a value that just meets its target ends."""
_BARS_END: Final = 750
_HEADING: Final = 70
_ROW: Final = 28
_GAP: Final = 20

_STYLE: Final = """
    svg { --paper: #ffffff; --edge: #d0d7de; --ink: #1f2328; --faint: #59636e; --met: #2da44e; --missed: #bc4c00;
          --told: #0969da; }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --faint: #9198a1; --met: #3fb950; --missed: #ff9b4a;
            --told: #4493f8; }
    }
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
    .heading { font-size: 15px; font-weight: 600; }
    .faint { fill: var(--faint); font-size: 12px; }
    .end { text-anchor: end; }
    .middle { text-anchor: middle; }
    .paper { fill: var(--paper); stroke: var(--edge); }
    .met { fill: var(--met); }
    .missed { fill: var(--missed); }
    .told { fill: var(--told); }
    .spread { stroke: var(--ink); stroke-width: 1.5; }
    .target { stroke: var(--faint); stroke-dasharray: 4 4; }
"""


def draw(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of rows of `measurements.json`. A bar that ends left of the dashed line meets its target."""
    told = [row for row in rows if row["target"] == TOLD.text]
    aimed = [row for row in rows if row["target"] != TOLD.text]
    aimed_at = _HEADING + _ROW * len(told) + _GAP if told else 0
    height = aimed_at + _HEADING + _ROW * len(aimed) + _GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "  <title>What a daily run takes, and every measurement beside its target</title>",
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="paper" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
            *(_seconds(told) if told else ()),
            *_shares(aimed, aimed_at),
            "</svg>",
            "",
        ]
    )


def _seconds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows without a target, as bars of seconds."""
    longest = max(max(row["values"]) for row in rows)
    scale = (_BARS_END - _BARS_AT) / longest
    drawn = [
        line
        for number, row in enumerate(rows)
        for line in _bar(row, _HEADING + _ROW * number, "told", lambda value, _: round(_BARS_AT + value * scale))
    ]
    return [*_heading(0, "What a daily run takes, from the start of its process to its exit"), *drawn]


def _shares(rows: Sequence[Mapping[str, Any]], top: int) -> list[str]:
    """The rows with a target, as bars of how much of it they use."""
    drawn = [
        line
        for number, row in enumerate(rows)
        for line in _bar(
            row,
            top + _HEADING + _ROW * number,
            "met" if row["met"] else "missed",
            lambda value, of: _x(_share_used(value, of)),
        )
    ]
    first, last = top + 56, top + _HEADING + _ROW * len(rows) + 4
    return [
        *_heading(top, "How much of its target each measurement uses"),
        f'  <text class="faint middle" x="{_TARGET_AT}" y="{top + 50}">target</text>',
        *drawn,
        f'  <path class="target" d="M{_TARGET_AT} {first} V{last}"/>',
    ]


def _heading(top: int, text: str) -> list[str]:
    return [
        f'  <text class="heading" x="20" y="{top + 30}">{text}</text>',
        f'  <text class="faint" x="20" y="{top + 50}">Bar: the median; line on it: from the best to the worst</text>',
    ]


def _bar(row: Mapping[str, Any], top: int, kind: str, x: Callable[[float, Mapping[str, Any]], int]) -> list[str]:
    ends = sorted(x(value, row) for value in row["values"])
    value = f"{row['value']:.3g} {row['unit']}".rstrip()
    return [
        f'  <text x="20" y="{top + 17}">{escape(row["name"])}</text>',
        f'  <rect class="{kind}" x="{_BARS_AT}" y="{top + 6}" width="{max(2, x(row["value"], row) - _BARS_AT)}" '
        'height="14" rx="2"/>',
        f'  <path class="spread" d="M{ends[0]} {top + 13} H{ends[-1]}"/>',
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
