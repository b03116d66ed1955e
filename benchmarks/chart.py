"""A bar chart of the measured ratios to QEMU, as SVG."""

from __future__ import annotations

from typing import Any

from summary import ratio

WIDTH, LEFT, BAR, GAP, SCALE = 760, 150, 9, 5, 4.0
COLOURS = {"trapline": "#2f6f9f", "cold": "#9fc3dd"}


def bar(x: float, y: float, length: float, colour: str) -> str:
    """One bar."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(length, 0.5):.1f}" height="{BAR}" fill="{colour}"/>'


def label(x: float, y: float, text: str, anchor: str = "start") -> str:
    """Some text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def draw(document: dict[str, Any]) -> str:
    """Wall-clock speed of each program relative to QEMU's in the same run, warm and cold."""
    programs = [r for r in document["results"] if not r["guest"].startswith(("empty", "traps"))]
    unit = (WIDTH - LEFT - 60) / SCALE
    lines, y = [], 34.0
    for result in programs:
        lines.append(label(LEFT - 8, y + BAR + 3, result["guest"], "end"))
        for name, colour in COLOURS.items():
            value = ratio(result, "wall", name)
            if value is not None:
                lines.append(bar(LEFT, y, min(value, SCALE) * unit, colour))
                lines.append(label(LEFT + min(value, SCALE) * unit + 4, y + BAR - 1, f"{value:.2f}"))
            y += BAR + 1
        y += GAP
    one = LEFT + unit
    lines.append(f'<line x1="{one:.1f}" y1="28" x2="{one:.1f}" y2="{y:.1f}" stroke="#b33" stroke-dasharray="3 3"/>')
    title = "Speed relative to qemu-system-riscv64 (wall clock; dark: warm cache, light: cold; the line is QEMU)"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 8:.0f}" '
        'font-family="sans-serif" font-size="10">'
    )
    return (
        "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', label(8, 16, title), *lines, "</svg>"])
        + "\n"
    )
