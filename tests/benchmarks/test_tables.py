"""Tables of results about exported models, from small documents."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from deepresidual.benchmarks.tables import accuracy_table, folder_table, inference_table

DOCS = Path(__file__).parents[2] / "docs"
RATIO = {"median": 2.5, "lowest": 2.0, "highest": 3.0, "count": 5}


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a result with these rows."""
    common = {"against": "", "target": None, "at_most": False, "ratio": None, "unit": "", "reason": ""}
    return {
        "command": ["residual", "benchmark", "x"],
        "commit": "0123456789abcdef",
        "date": "2026-11-30T12:00:00+00:00",
        "hardware": {"name": "a processor", "cores": 2, "flags": ["avx2", "avx512f"]},
        "threads": 2,
        "versions": {"torch": "2.14", "torchvision": None, "onnxruntime": "1.32"},
        "rows": [
            {**common, "ours": None, "theirs": None, "details": {}, "is_met": None, **row} for row in rows
        ],
    }


LAST = (
    "`residual benchmark x`, commit 0123456789, 2026-11-30, a processor, 2 cores (avx2, avx512f), 2 threads, "
    "torch 2.14, onnxruntime 1.32"
)


def test_targets_stand_first_and_then_every_side() -> None:
    table = inference_table(
        document(
            [
                {"what": "a", "against": "b|c", "target": 2.2, "ratio": RATIO, "is_met": True},
                {"what": "d", "against": "b", "target": 3.0, "reason": "unmeasured: not installed"},
                {
                    "what": "e",
                    "ratio": RATIO,
                    "reason": "12.5 images/s",
                    "details": {"ours": {"cpu_ms": 80.04}},
                },
                {"what": "f", "reason": "unmeasured: not installed"},
            ]
        )
    )
    assert table.splitlines() == [
        "| what | against | ratio | target |  |",
        "|---|---|---|---|---|",
        "| a | b/c | 2.50 (2.00 – 3.00, n = 5) | ≥ 2.2 | met |",
        "| d | b | – | ≥ 3 | unmeasured: not installed |",
        "",
        "| what | CPU ms an image | speed | against torchvision, the same threads |",
        "|---|---:|---:|---|",
        "| e | 80.0 | 12.5 images/s | 2.50 (2.00 – 3.00, n = 5) |",
        "",
        LAST,
    ]


def test_commands_stand_with_time_and_memory() -> None:
    ours = {"wall_s": 1.25, "cpu_s": 2.5, "peak_bytes": 250_000_000}
    theirs = {"wall_s": 9.0, "cpu_s": 20.0, "peak_bytes": 1_000_000_000}
    table = folder_table(
        document(
            [
                {
                    "what": "a folder",
                    "unit": "s",
                    "ours": 1.25,
                    "ratio": RATIO,
                    "details": {"photos": 250, "ours": ours, "theirs": theirs},
                },
                {
                    "what": "a photo",
                    "against": "1.5 s",
                    "target": 1.0,
                    "at_most": True,
                    "is_met": False,
                    "unit": "s",
                    "ours": 1.25,
                    "ratio": RATIO,
                    "details": {"photos": 1, "ours": ours},
                },
                {"what": "memory", "unit": "bytes", "ours": 3, "details": {"photos": 1, "ours": ours}},
            ]
        )
    )
    assert table.splitlines() == [
        "| what | against | ratio | target |  |",
        "|---|---|---|---|---|",
        "| a photo | 1.5 s | 2.50 (2.00 – 3.00, n = 5) | ≤ 1 | missed |",
        "",
        "| what | photos | ours: wall, CPU, memory | theirs | times as fast |",
        "|---|---:|---|---|---|",
        "| a folder | 250 | 1.25 s, 2.50 s, 250 MB | 9.00 s, 20.00 s, 1,000 MB | 2.50 (2.00 – 3.00, n = 5) |",
        "| a photo | 1 | 1.25 s, 2.50 s, 250 MB |  |  |",
        "",
        LAST,
    ]


@pytest.mark.parametrize("what", ["inference", "folder"])
def test_the_newest_result_is_shown_and_nothing_without_one(what: str, tmp_path: Path) -> None:
    program = runpy.run_path(str(DOCS / "update_tables.py"))
    table = program["TABLES"]["results.md"][what]
    assert table(folder=tmp_path) == ""
    for date in ("2026-11-29", "2026-11-30"):
        row = {"what": f"of {date}", "against": "", "target": 1.0}
        (tmp_path / f"{date}-here-{what}.json").write_text(json.dumps(document([row])))
    assert "of 2026-11-30" in table(folder=tmp_path)
    assert "of 2026-11-29" not in table(folder=tmp_path)


def test_accuracies_stand_with_their_difference_and_its_interval() -> None:
    row = {
        "model": "m",
        "engine": "openvino",
        "precision": "int8",
        "right": 8417,
        "count": 10_000,
        "difference": -0.0003,
        "difference_interval": [-0.0018, 0.0012],
        "agreement": 0.9923,
        "rms_of_deviation": 0.01483,
    }
    assert accuracy_table({**document([]), "rows": [row]}).splitlines() == [
        "| model | computed by | right | points (95 %) | same class | rms of logits / deviation |",
        "|---|---|---:|---|---:|---:|",
        "| `m` | openvino, int8 | 8,417 of 10,000 | −0.03 [−0.18, +0.12] | 99.23 % | 0.015 |",
        "",
        LAST,
    ]
