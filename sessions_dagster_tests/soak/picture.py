"""The seconds and the memory of each day of the soak, as an SVG drawing."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_WIDTH: Final = 900
_LEFT: Final = 80
_RIGHT: Final = 700
_PLOT_HEIGHT: Final = 160
_TOP: Final = 60
_BETWEEN: Final = 80
_TICKS: Final = 4
_DAYS_PER_TICK: Final = 20
_MIB: Final = 2**20

_STYLE: Final = """
    svg { --paper: #ffffff; --edge: #d0d7de; --ink: #1f2328; --faint: #59636e; --0: #0969da; --1: #bc4c00; --2: #2da44e;
          --3: #8250df; }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --faint: #9198a1; --0: #4493f8; --1: #ff9b4a;
            --2: #3fb950; --3: #ab7df8; }
    }
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
    .heading { font-size: 15px; font-weight: 600; }
    .faint { fill: var(--faint); font-size: 12px; }
    .end { text-anchor: end; }
    .middle { text-anchor: middle; }
    .paper { fill: var(--paper); stroke: var(--edge); }
    .grid { stroke: var(--edge); }
    .line { fill: none; stroke-width: 1.5; }
"""

_Points = Sequence[tuple[int, float]]


def draw(days: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of the days in `docs/soak.json`: the seconds of ordinary days above, the memory below."""
    seconds = {
        "a day with one batch": [(day["day"], day["seconds"]) for day in days if day["ordinary"]],
        "compaction": [(day["day"], day["compaction_seconds"]) for day in days if "compaction_seconds" in day],
    }
    roles = sorted({role for day in days for role in day["resident_bytes"]})
    memory = {
        role: [(day["day"], day["resident_bytes"][role] / _MIB) for day in days if role in day["resident_bytes"]]
        for role in roles
    }
    second_top = _TOP + _PLOT_HEIGHT + _BETWEEN
    height = second_top + _PLOT_HEIGHT + 50
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "  <title>The time and the memory of each day of the soak</title>",
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="paper" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
            *_plot(_TOP, "Seconds of the runs", seconds, len(days)),
            *_plot(second_top, "Resident memory of the long-lived processes, in MiB", memory, len(days)),
            "</svg>",
            "",
        ]
    )


def _plot(top: int, title: str, lines: Mapping[str, _Points], days: int) -> list[str]:
    highest = max(value for points in lines.values() for _, value in points)
    bottom = top + _PLOT_HEIGHT

    def y(value: float) -> float:
        return round(bottom - value / highest * _PLOT_HEIGHT, 1)

    def x(day: int) -> float:
        return round(_LEFT + day / days * (_RIGHT - _LEFT), 1)

    drawn = [f'  <text class="heading" x="20" y="{top - 20}">{title}</text>']
    for tick in range(_TICKS + 1):
        value = highest * tick / _TICKS
        drawn.append(f'  <path class="grid" d="M{_LEFT} {y(value)} H{_RIGHT}"/>')
        drawn.append(f'  <text class="faint end" x="{_LEFT - 8}" y="{y(value) + 4}">{value:,.0f}</text>')
    for day in range(0, days + 1, _DAYS_PER_TICK):
        drawn.append(f'  <text class="faint middle" x="{x(day)}" y="{bottom + 18}">{day or "day"}</text>')
    for number, (name, points) in enumerate(lines.items()):
        if points:
            path = " L".join(f"{x(day)} {y(value)}" for day, value in points)
            drawn.append(f'  <path class="line" style="stroke: var(--{number})" d="M{path}"/>')
            label = f'<tspan style="fill: var(--{number})">&#9632;</tspan> {name}'
            drawn.append(f'  <text x="{_RIGHT + 20}" y="{top + 16 + 20 * number}">{label}</text>')
    return drawn
