"""The results as tables for people (Markdown) and as JSON for later comparison."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from bench.delivery import Delivered
from bench.figures import Figure
from bench.reading import Downloaded, Timings

OURS = "postwerk"


def delivery_table(results: Sequence[Delivered]) -> str:
    """One row a load and system, the median of its runs; ratios of ours to the best other system."""
    head = [
        "load",
        "system",
        "delivered/s",
        "accepted/s",
        "p50 ms",
        "p99 ms",
        "CPU ms/msg",
        "PSS MB",
        "gen. ms/msg",
        "rate",
        "CPU",
    ]
    rows = []
    for title in dict.fromkeys(result.load.title for result in results):
        here = [result for result in results if result.load.title == title]
        summary = {
            name: _summary([r for r in here if r.system == name]) for name in dict.fromkeys(r.system for r in here)
        }
        others = [values for name, values in summary.items() if name != OURS]
        for name, values in summary.items():
            ratios = ["", ""]
            if name == OURS and others:
                ratios = [
                    f"{values['rate'] / max(other['rate'] for other in others):.1f}x",
                    f"1/{min(other['cpu'] for other in others) / values['cpu']:.1f}",
                ]
            rows.append([title, name, *_delivery_cells(values), *ratios])
    return _table(head, rows)


def _summary(results: Sequence[Delivered]) -> dict[str, float]:
    count = results[0].load.count
    return {
        "rate": median(count * r.load.recipients / r.elapsed for r in results),
        "accepted": median(count / r.accepted_elapsed for r in results),
        "p50": median(r.latencies[len(r.latencies) // 2] for r in results) * 1000,
        "p99": median(r.latencies[int(len(r.latencies) * 0.99)] for r in results) * 1000,
        "cpu": median(r.cpu_seconds for r in results) * 1000 / count,
        "memory": median(r.resident_octets for r in results) / 1e6,
        "generator": median(r.generator_seconds for r in results) * 1000 / count,
    }


def _delivery_cells(values: dict[str, float]) -> list[str]:
    return [
        f"{values['rate']:.0f}",
        f"{values['accepted']:.0f}",
        f"{values['p50']:.2f}",
        f"{values['p99']:.1f}",
        f"{values['cpu']:.2f}",
        f"{values['memory']:.0f}",
        f"{values['generator']:.2f}",
    ]


def reading_table(results: Sequence[Timings]) -> str:
    """One row an operation, warm and cold milliseconds of each system, and the ratio of ours to the best other."""
    head = ["operation"]
    for result in results:
        head += [f"{result.system} warm", "cold", "CPU"]
    head.append("ours/best other")
    ours = next((result for result in results if result.system == OURS), None)
    others = [result for result in results if result.system != OURS]
    rows = []
    for name in results[0].warm:
        row = [name]
        for result in results:
            row += [_number(result.warm.get(name)), _number(result.cold.get(name)), _number(result.cpu.get(name))]
        best = min((other.warm[name] for other in others if name in other.warm), default=None)
        row.append(f"{ours.warm[name] / best:.2f}" if ours and best and name in ours.warm else "")
        rows.append(row)
    for label, values in (("... each p50", [r.p50 for r in results]), ("... each p99", [r.p99 for r in results])):
        if not any(values):
            continue
        cells = [cell for value in values for cell in (f"{value:.2f}", "", "")]
        rows.append([label, *cells, ""])
    differing = [name for name in results[0].counts if len({result.counts.get(name) for result in results}) > 1]
    warning = f"\n\nAnswers differ in: {', '.join(differing)}" if differing else ""
    return f"Mailbox of {results[0].messages} messages, milliseconds.\n\n" + _table(head, rows) + warning


def comparison_table(results: Sequence[Figure]) -> str:
    """One row a figure: ours, the peer's, and the ratio: below 1 (of a rate: above 1) ours is better."""
    systems = list(dict.fromkeys(figure.system for figure in results))
    ours = [name for name in systems if name == OURS]
    values = {(figure.operation, figure.unit, figure.system): figure for figure in results}
    rows = []
    for operation, unit in dict.fromkeys((figure.operation, figure.unit) for figure in results):
        found = [values.get((operation, unit, name)) for name in systems]
        ratio, verdict = "", ""
        mine = next((figure for figure in found if figure and figure.system in ours), None)
        others = [figure.value for figure in found if figure and figure.system not in ours]
        if mine and others:
            best = max(others) if mine.is_rate else min(others)
            is_better = mine.value >= best if mine.is_rate else mine.value <= best
            ratio = f"{mine.value / best:.2f}" if best > 0 else "-"
            verdict = "" if is_better else "slower" if unit in ("ms", "/s") else "worse"
        rows.append([operation, unit, *(_number(figure.value if figure else None) for figure in found), ratio, verdict])
    return _table(["operation", "unit", *systems, "ratio", ""], rows)


def figures(results: dict[str, Sequence[Any]]) -> list[Figure]:
    """Everything that was measured, but delivery, as figures."""
    found = figures_of([*results.get("reading", ()), *results.get("large", ())])
    found += figures_of_downloads(results.get("pop3", ()))
    for scenario in ("compress", "logins", "idle", "submission", "relay", "queue"):
        found += results.get(scenario, ())
    return found


def figures_of(timings: Sequence[Timings]) -> list[Figure]:
    """The warm times as figures."""
    return [
        Figure(timing.system, operation, "ms", milliseconds)
        for timing in timings
        for operation, milliseconds in timing.warm.items()
    ]


def figures_of_downloads(results: Sequence[Downloaded]) -> list[Figure]:
    """The best of each system's POP3 downloads as figures."""
    figures = []
    for name in dict.fromkeys(result.system for result in results):
        best = min((result for result in results if result.system == name), key=lambda result: result.elapsed)
        figures.append(Figure(name, f"POP3 download of {best.messages}", "ms", best.elapsed * 1000))
        cpu = best.cpu_seconds * 1000
        figures.append(Figure(name, f"POP3 download of {best.messages}: CPU", "ms", cpu))
    return figures


def download_table(results: Sequence[Downloaded]) -> str:
    """One row a system."""
    rows = [
        [
            result.system,
            f"{result.messages / result.elapsed:.0f}",
            f"{result.octets / result.elapsed / 1e6:.0f}",
            f"{result.cpu_seconds * 1000 / result.messages:.3f}",
        ]
        for result in results
    ]
    return _table(["POP3 download", "messages/s", "MB/s", "CPU ms/msg"], rows)


def processes_table(results: Sequence[Delivered]) -> str:
    """CPU milliseconds a message by process, of the last run of each load; dead children stand with their parent."""
    rows = []
    last = {(result.load.title, result.system): result for result in results}
    for (title, system), result in last.items():
        shares = [f"{name} {used * 1000 / result.load.count:.2f}" for name, used in result.cpu_by_process.items()]
        rows.append([title, system, ", ".join(shares[:7])])
    return _table(["load", "system", "CPU ms/msg by process"], rows)


def save(directory: Path, results: dict[str, Sequence[Any]]) -> Path:
    """Write everything measured to one JSON file in the directory; gives its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    path.write_text(json.dumps({name: [asdict(row) for row in rows] for name, rows in results.items()}, indent=1))
    return path


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *rows)
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
