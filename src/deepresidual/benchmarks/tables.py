"""Write the results of benchmarks of exported models as Markdown, from their JSON documents; without torch.

Each table ends with the command, the commit, the date, the processor with what it has, threads and versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

JsonObject: TypeAlias = Mapping[str, Any]

_PACKAGES = ("torch", "torchvision", "onnxruntime", "openvino")


def targets_table(document: JsonObject) -> str:
    """Return the rows of a result that have a target."""
    rows = [row for row in document["rows"] if row["target"] is not None]
    return _table(("what", "against", "ratio", "target", ""), (_target_cells(row) for row in rows))


def _target_cells(row: JsonObject) -> tuple[str, ...]:
    verdict = {True: "met", False: "missed", None: row["reason"]}[row["is_met"]]
    target = f"{'≤' if row['at_most'] else '≥'} {row['target']:g}"
    return (row["what"], row["against"], _ratio(row["ratio"]), target, verdict)


def inference_table(document: JsonObject) -> str:
    """Return the result of ``residual benchmark inference``: targets met and missed, then every side."""
    sides = [row for row in document["rows"] if row["target"] is None]
    cells = (
        (
            row["what"],
            f"{row['details']['ours']['cpu_ms']:.1f}",
            row["reason"].removesuffix(", measured alone"),
            _ratio(row["ratio"]),
        )
        for row in sides
        if row["ratio"] is not None
    )
    every = _table(("what", ">CPU ms an image", ">speed", "against torchvision, the same threads"), cells)
    return "\n".join([targets_table(document), every, measured_on(document)])


def folder_table(document: JsonObject) -> str:
    """Return the result of ``residual benchmark folder``: seconds, CPU seconds and memory of each command."""

    def cells() -> Iterator[tuple[str, ...]]:
        for row in document["rows"]:
            if row["unit"] == "s" and row["ours"] is not None:
                theirs = row["details"].get("theirs")
                yield (
                    row["what"],
                    str(row["details"]["photos"]),
                    _cost(row["details"]["ours"]),
                    _cost(theirs) if theirs else "",
                    _ratio(row["ratio"]) if theirs else "",
                )

    heads = ("what", ">photos", "ours: wall, CPU, memory", "theirs", "times as fast")
    return "\n".join([targets_table(document), _table(heads, cells()), measured_on(document)])


def accuracy_table(document: JsonObject) -> str:
    """Return the result of ``benchmarks/exported_accuracy.py``: what each engine × precision has right."""

    def cells() -> Iterator[tuple[str, ...]]:
        for row in document["rows"]:
            low, high = (100 * end for end in row["difference_interval"])
            yield (
                f"`{row['model']}`",
                f"{row['engine']}, {row['precision']}",
                f"{row['right']:,} of {row['count']:,}",
                f"{100 * row['difference']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−"),
                f"{100 * row['agreement']:.2f} %",
                f"{row['rms_of_deviation']:.2g}",
            )

    heads = ("model", "computed by", ">right", "points (95 %)", ">same class", ">rms of logits / deviation")
    return "\n".join([_table(heads, cells()), measured_on(document)])


def detector_speed_table(document: JsonObject) -> str:
    """Return the result of ``benchmarks/detector_inference.py``: each engine beside torchvision."""

    def cells() -> Iterator[tuple[str, ...]]:
        for row in document["rows"]:
            target = "" if row["target"] is None else f"≥ {row['target']:g}"
            verdict = {True: "met", False: "missed", None: ""}[row["is_met"]]
            yield row["what"], f"{row['ours']:.2f}", _ratio(row["ratio"]), target, verdict

    heads = ("what", ">images/s", "times as fast as torchvision", "target", "")
    return "\n".join([_table(heads, cells()), measured_on(document)])


def mask_memory_table(document: JsonObject) -> str:
    """Return the result of ``benchmarks/mask_memory.py``: most memory of a command that finds masks."""

    def cells() -> Iterator[tuple[str, ...]]:
        for row in document["rows"]:
            details = row["details"]
            peaks = f"{details['small_mb']:.0f}", f"{row['ours']:.0f}"
            yield row["what"], str(details["objects"]["large"]), *peaks

    heads = ("what", ">masks", ">small photo, MB", ">12 megapixels, MB")
    return "\n".join([_table(heads, cells()), measured_on(document)])


def measured_on(document: JsonObject) -> str:
    """Return by what command, at which commit, when, and on what a result was measured."""
    hardware, versions = document["hardware"], document["versions"]
    facts = [
        f"`{' '.join(document['command'])}`",
        f"commit {document['commit'][:10]}",
        document["date"][:10],
        f"{hardware['name']}, {hardware['cores']} cores ({', '.join(hardware['flags'])})",
        f"{document['threads']} threads",
        *(f"{name} {versions[name]}" for name in _PACKAGES if versions.get(name)),
    ]
    return ", ".join(facts) + "\n"


def _ratio(found: JsonObject | None) -> str:
    if found is None:
        return "–"
    return f"{found['median']:.2f} ({found['lowest']:.2f} – {found['highest']:.2f}, n = {found['count']})"


def _cost(cost: JsonObject) -> str:
    return f"{cost['wall_s']:.2f} s, {cost['cpu_s']:.2f} s, {cost['peak_bytes'] / 1e6:,.0f} MB"


def _table(heads: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a table; a head that begins with ``>`` is of a column of numbers."""
    lines = [f"| {' | '.join(head.removeprefix('>') for head in heads)} |"]
    lines += [f"|{'|'.join('---:' if head.startswith('>') else '---' for head in heads)}|"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in rows]
    return "\n".join(lines) + "\n"
