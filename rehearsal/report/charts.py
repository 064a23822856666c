"""Charts as inline SVG, made here so that the report needs no script and no network.

Owns shapes and scales; colours are classes that the page's style sheet gives for light, dark and print. Every text
is escaped. A chart without data is an empty string.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rehearsal.report.model import Bar, Point, Report, Series, TimeSpan
from rehearsal.report.numbers import say

WIDTH = 960.0
LEFT = 216.0
NARROW = 64.0
RIGHT = 74.0
ROW = 24.0
MAX_BARS = 60
LETTER = 6.2  # width of a letter of the small text


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds on the x axis between two margins."""

    first: float
    last: float
    left: float = LEFT

    def x(self, at: float) -> float:
        """Return where a second stands."""
        return self.left + (at - self.first) / (self.last - self.first) * (WIDTH - self.left - RIGHT)


def draw(name: str, report: Report) -> Markup:
    """Return the chart of that name."""
    charts = {
        "timeline": lambda: draw_timeline(report.timeline),
        "progress": lambda: draw_progress(report.progress),
        "parity": lambda: draw_parity(report.parity),
        "latency": lambda: draw_latency(report.latency, report.timeline),
    }
    return charts[name]() if name in charts else Markup("")


def draw_timeline(spans: Sequence[TimeSpan]) -> Markup:
    """Return the phases as bars over time, one row an attempt."""
    if not spans:
        return Markup("")
    end = max(1.0, *(span.start_s + (span.seconds or 0) for span in spans))
    height = len(spans) * ROW + 30
    scale = Scale(0, end)
    parts = _time_axis(scale, height)
    for row, span in enumerate(spans):
        parts += _span_row(span, row * ROW, scale)
    return _svg("Phases over time", height, parts)


def draw_progress(series: Sequence[Series]) -> Markup:
    """Return the share done over time, one line a work."""
    if not series:
        return Markup("")
    first, last = min(line.points[0][0] for line in series), max(line.points[-1][0] for line in series)
    scale = Scale(first, max(last, first + 0.1), NARROW)
    height = 200.0
    parts = [*_time_axis(scale, height), *_level(scale, height - 30, "0 %"), *_level(scale, 12, "100 %")]
    for number, line in enumerate(series):
        points = [(scale.x(at), 12 + (1 - share) * (height - 42)) for at, share in line.points]
        parts.append(_line(points, f"s{number % 4}"))
    legend = [(f"s{number % 4}", f"{line.title}: {line.total:,.0f} {line.unit}") for number, line in enumerate(series)]
    return _svg("Share done over time", height, parts) + _legend(legend)


def draw_latency(points: Sequence[Point], spans: Sequence[TimeSpan]) -> Markup:
    """Return p50 and p99 over time on a logarithmic scale, with the phases behind them."""
    seen = [value for point in points for value in (point.p50_ms, point.p99_ms) if value]
    if not seen:
        return Markup("")
    scale = Scale(points[0].at_s, max(points[-1].at_s, points[0].at_s + 1), NARROW)
    low, high = math.floor(math.log10(min(seen))), math.ceil(math.log10(max(seen)) + 1e-9)
    high, height, top = max(high, low + 1), 280.0, 40.0

    def y(value: float) -> float:
        return height - 30 - (math.log10(max(value, 10.0**low)) - low) / (high - low) * (height - 30 - top)

    parts = [*_bands(spans, scale, height), *_time_axis(scale, height)]
    for power in range(low, high + 1):
        parts += _level(scale, y(10.0**power), _milliseconds(10.0**power))
    p50 = [(scale.x(point.at_s), y(point.p50_ms)) for point in points if point.p50_ms is not None]
    p99 = [(scale.x(point.at_s), y(point.p99_ms)) for point in points if point.p99_ms is not None]
    parts += [_line(p50, "s0"), _line(p99, "s1")]
    return _svg("Latency over time", height, parts) + _legend([("s0", "p50"), ("s1", "p99, slowest kind of request")])


def draw_parity(bars: Sequence[Bar]) -> Markup:
    """Return one bar a partition: rows of the target, and how many keys differ."""
    if not bars:
        return Markup("")
    shown, rest = bars[:MAX_BARS], len(bars) - MAX_BARS
    most = max(1, *(count for bar in shown for count in (bar.source, bar.target)))
    height = len(shown) * 18 + 4.0
    parts = [part for row, bar in enumerate(shown) for part in _bar_row(bar, row * 18.0, most)]
    more = Markup('<p class="dim">and {} more partitions in report.json</p>').format(rest) if rest > 0 else Markup("")
    return _svg("Rows by partition", height, parts) + more


def _svg(title: str, height: float, parts: Sequence[Markup]) -> Markup:
    body = Markup("").join(parts)
    return Markup('<svg class="chart" role="img" viewBox="0 0 {} {}"><title>{}</title>{}</svg>').format(
        _n(WIDTH), _n(height), title, body
    )


def _legend(entries: Sequence[tuple[str, str]]) -> Markup:
    items = Markup("").join(Markup('<li><i class="key {}"></i>{}</li>').format(name, text) for name, text in entries)
    return Markup('<ul class="legend">{}</ul>').format(items)


def _text(x: float, y: float, text: str, name: str = "") -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(_n(x), _n(y), name, text)


def _rect(x: float, y: float, size: tuple[float, float], name: str, tip: str = "") -> Markup:
    title = Markup("<title>{}</title>").format(tip) if tip else ""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="2" class="{}">{}</rect>').format(
        _n(x), _n(y), _n(size[0]), _n(size[1]), name, title
    )


def _line(points: Sequence[tuple[float, float]], name: str) -> Markup:
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return Markup('<polyline points="{}" class="line {}"/>').format(path, name)


def _level(scale: Scale, y: float, text: str) -> list[Markup]:
    rule = Markup('<line x1="{0}" x2="{1}" y1="{2}" y2="{2}" class="grid"/>').format(
        _n(scale.left), _n(WIDTH - RIGHT), _n(y)
    )
    return [rule, _text(scale.left - 8, y + 4, text, "end")]


def _time_axis(scale: Scale, height: float) -> list[Markup]:
    parts: list[Markup] = []
    step = _step(scale.last - scale.first)
    for number in range(math.ceil(scale.first / step), math.floor(scale.last / step + 1e-9) + 1):
        x = _n(scale.x(number * step))
        parts.append(Markup('<line x1="{0}" x2="{0}" y1="0" y2="{1}" class="grid"/>').format(x, _n(height - 24)))
        parts.append(_text(scale.x(number * step), height - 8, _clock(number * step, step), "mid"))
    return parts


def _step(width: float) -> float:
    nice = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
    return next((float(step) for step in nice if width / step <= 9), 86400.0 * math.ceil(width / 86400 / 9))


def _clock(second: float, step: float) -> str:
    if step < 1:
        return f"{second:.1f} s"
    if step < 60:
        return f"{second:.0f} s"
    return f"{second / 60:.0f} min" if step < 3600 else f"{second / 3600:.0f} h"


def _span_row(span: TimeSpan, y: float, scale: Scale) -> list[Markup]:
    start, seconds = scale.x(span.start_s), span.seconds or 0.0
    width = max(scale.x(span.start_s + seconds) - start, 3.0)
    said = span.state if span.state == "skipped" else say(seconds, "s")
    tip = f"{span.title}: {span.state}, from second {span.start_s:,.1f}, {say(seconds, 's')}"
    text = f"{said}, {span.state}" if span.state in {"failed", "interrupted"} else said
    beside = start + width < WIDTH - RIGHT - 60 or span.state == "ok"
    label = _text(start + width + 5, y + 16, text, "dim") if beside else _text(start - 5, y + 16, text, "end dim")
    return [
        _text(LEFT - 8, y + 16, _short(span.title), "end"),
        _rect(start, y + 4, (width, ROW - 9), f"span {span.state}", tip),
        label,
    ]


def _bands(spans: Sequence[TimeSpan], scale: Scale, height: float) -> list[Markup]:
    parts: list[Markup] = []
    ends = [(span, span.start_s + (span.seconds or 0.0)) for span in spans if span.seconds]
    inside = [(span, end) for span, end in ends if span.start_s < scale.last and end > scale.first]
    for number, (span, end) in enumerate(inside):
        start = scale.x(max(span.start_s, scale.first))
        width = max(scale.x(min(end, scale.last)) - start, 1.0)
        parts.append(_rect(start, 18, (width, height - 42), f"band b{number % 2}", span.title))
        if width > LETTER * len(span.phase):
            parts.append(_text(start + 3, 30, span.phase, "small"))
    return parts


def _bar_row(bar: Bar, y: float, most: int) -> list[Markup]:
    width = max((WIDTH - LEFT - 150) * max(bar.source, bar.target) / most, 1.0)
    bad = not bar.equal
    text = f"{bar.target:,} rows" + (", content differs" if bad else "")
    tip = f"{bar.label}: source {bar.source:,}, target {bar.target:,}, {'equal' if bar.equal else 'different'}"
    return [
        _text(LEFT - 8, y + 13, _short(bar.label), "end"),
        _rect(LEFT, y + 3, (width, 12), "span failed" if bad else "span ok", tip),
        _text(LEFT + width + 6, y + 13, text, "bad" if bad else "dim"),
    ]


def _milliseconds(value: float) -> str:
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
