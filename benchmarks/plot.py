"""The result of a run as one picture: a panel of bars for each workload. SVG, written by hand: it needs no library."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from workloads import WORKLOADS

if TYPE_CHECKING:
    from measure import Sample
    from report import Report

PANELS_PER_ROW = 3
WIDTH = 400
BAR, GAP = 14, 4
TITLE, MARGIN = 34, 18
LABEL, VALUE = 112, 108
"""Room for the server's name before a bar, and for its figures after it."""
LONGEST_TITLE = 66
OURS, OTHERS, FLOOR = "#c2410c", "#64748b", "#cbd5e1"


def plot(report: Report) -> str:
    """Return the picture: requests per second as bars, CPU time per request as text beside them."""
    names = [name for name in report.workloads() if name in report.samples]
    rows = [names[at : at + PANELS_PER_ROW] for at in range(0, len(names), PANELS_PER_ROW)]
    parts: list[str] = []
    top = MARGIN + 28
    for row in rows:
        panels = [_panel(name, report.medians(name)) for name in row]
        for column, (panel, _) in enumerate(panels):
            parts.append(f'<g transform="translate({MARGIN + column * (WIDTH + MARGIN)} {top})">{panel}</g>')
        top += max(height for _, height in panels) + MARGIN
    width = MARGIN + PANELS_PER_ROW * (WIDTH + MARGIN)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + 30}" '
        f'viewBox="0 0 {width} {top + 30}" font-family="system-ui, sans-serif" font-size="11" fill="#0f172a">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{MARGIN}" y="{MARGIN + 8}" font-size="15" font-weight="600">Requests per second on one core; '
        f"beside them, CPU \u00b5s per request</text>"
    )
    foot = f'<text x="{MARGIN}" y="{top + 14}" fill="#475569">{escape(report.machine_line())}</text></svg>\n'
    return "\n".join([head, *parts, foot])


def _panel(name: str, medians: dict[str, Sample]) -> tuple[str, int]:
    """Return the panel of a workload, and its height."""
    workload = WORKLOADS[name]
    factor, unit = workload.unit or (1.0, "requests")
    fastest = sorted(medians.items(), key=lambda item: -item[1].requests_per_second)
    most = max((sample.requests_per_second for sample in medians.values()), default=1.0)
    title = f"{name}: {workload.title}" + ("" if unit == "requests" else f" ({unit}/s)")
    if len(title) > LONGEST_TITLE:
        title = f"{title[:LONGEST_TITLE]}\u2026"
    parts = [f'<text y="12" font-weight="600">{escape(title)}</text>']
    for at, (server, sample) in enumerate(fastest):
        y = TITLE - 12 + at * (BAR + GAP)
        length = max(1.0, (WIDTH - LABEL - VALUE) * sample.requests_per_second / most)
        colour = OURS if server.startswith("vibora") else FLOOR if server == "floor" else OTHERS
        weight = ' font-weight="600"' if server.startswith("vibora") else ""
        rate = f"{sample.requests_per_second * factor:,.0f}"
        cost = f'<tspan fill="#64748b">  {sample.cpu_microseconds:,.1f} \u00b5s</tspan>'
        parts += [
            f'<text x="{LABEL - 6}" y="{y + 11}" text-anchor="end"{weight}>{escape(server)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<text x="{LABEL + length + 5:.1f}" y="{y + 11}">{rate}{cost}</text>',
        ]
    return "".join(parts), TITLE + len(fastest) * (BAR + GAP)
