"""Tables of the documentation say what the code and its recorded comparisons say."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from deepresidual.analysis.experiments import EXPERIMENTS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "row", "at_least"),
    [
        ("networks.md", "| `resnet", 60),
        ("converting.md", "| timm 1", 2),
        ("reproducing.md", "layers, ", 18),
        ("results.md", "<!-- reproduced ", 20),
        ("training.md", "| `", 70),
        ("tutorial.md", "<!-- reproduced degradation: ", 2),
        ("zh/tutorial.md", "<!-- reproduced degradation: ", 2),
    ],
)
def test_the_tables_are_up_to_date(name: str, row: str, at_least: int) -> None:
    page = (DOCS / name).read_text("utf-8")
    program = runpy.run_path(str(DOCS / "update_tables.py"))
    assert program["updated"](name, page) == page, "run: python docs/update_tables.py"
    assert page.count(row) >= at_least


def test_every_experiment_has_its_section_of_results_with_its_figures() -> None:
    program = runpy.run_path(str(DOCS / "update_tables.py"))
    assert program["EXPERIMENT_NAMES"] == tuple(one.name for one in EXPERIMENTS)
    page = (DOCS / "results.md").read_text("utf-8")
    for one in EXPERIMENTS:
        assert f"\n### {one.name}\n" in page
        assert f"<!-- reproduced {one.name}: begin -->" in page


def test_few_images_stand_side_by_side_and_are_left_out_without_a_result(tmp_path: Path) -> None:
    table = runpy.run_path(str(DOCS / "update_tables.py"))["transfer_table"]
    assert table(tmp_path) == ""
    details = {"images a class": 10, "interval": [0.5, 0.7], "cpu_seconds": [1.0, 2.0], "num_updates": [0, 0]}
    ratio = {"median": 8.0, "lowest": 7.5, "highest": 10.0, "count": 2}
    times = {"images a class": 10, "reached": 1, "of": 2}
    document = {
        "command": ["residual", "benchmark", "finetune"],
        "date": "2026-11-30T12:00:00+00:00",
        "hardware": {"name": "a processor", "threads": 1},
        "versions": {"torch": "2.14"},
        "rows": [
            {"name": "probe-10", "ours": 0.6, "details": details},
            {"name": "scratch-10", "ours": None, "details": {}},
            {"name": "time-timm-10", "against": "timm", "ours": 1.5, "ratio": ratio, "details": times},
        ],
    }
    (tmp_path / "2026-11-30-here-finetune.json").write_text(json.dumps(document))
    assert table(tmp_path).splitlines() == [
        "| training | 10 images a class |",
        "|---|---|",
        "| probe of the learned weights | 60.0 % (50.0 – 70.0); 1.5 s |",
        "",
        "| loop | images a class | times our CPU seconds | ours | reached |",
        "|---|---:|---|---:|---:|",
        "| timm | 10 | at least 8.0 (7.5 – 10.0) | 1.5 s | 1 of 2 |",
        "",
        "`residual benchmark finetune`, 2026-11-30, a processor, 1 threads, torch 2.14",
    ]


def test_detectors_have_means_over_seeds_and_the_newest_result_counts(tmp_path: Path) -> None:
    table = runpy.run_path(str(DOCS / "update_tables.py"))["detectors_table"]
    assert table(tmp_path) == ""
    run = {
        "count": 1000,
        "model": "resnet20-c4",
        "image_px": 64,
        "recipe": "digit_scenes",
        "steps": 1500,
        "batch_size": 16,
        "ap_interval": [0.7, 0.72],
    }
    runs = [{**run, "seed": 5, "wall_s": 180.0}, {**run, "seed": 6, "wall_s": 240.0}]
    figures = {"ap50": {"mean": 0.99, "range": [0.98, 1.0]}, "ap": {"mean": 0.71, "range": [0.71, 0.71]}}
    row = {"name": "digit-scenes", "details": {"runs": runs, "figures": figures}}
    document = {
        "benchmark": "detectors",
        "command": ["detectors.py", "digit-scenes"],
        "commit": "0123456789abcdef",
        "date": "2026-11-30T12:00:00+00:00",
        "hardware": {"name": "a processor", "cores": 2, "flags": ["avx2"]},
        "threads": 2,
        "versions": {"torch": "2.14", "torchvision": "0.29"},
    }
    older = {**document, "rows": [{**row, "details": {"runs": runs[:1], "figures": {}}}]}
    (tmp_path / "2026-11-29-here-detectors.json").write_text(json.dumps(older))
    (tmp_path / "2026-11-30-here-detectors.json").write_text(json.dumps({**document, "rows": [row]}))
    other = {**document, "benchmark": "train", "rows": [{"name": "detectors-speed"}]}
    (tmp_path / "2026-12-01-here-detectors-speed.json").write_text(json.dumps(other))
    head, rule, line, _, conditions = table(tmp_path).splitlines()
    assert head.count("|") == rule.count("|") == line.count("|")
    assert line == (
        "| digit-scenes | `resnet20-c4`, 64 px | `digit_scenes`, 1,500 updates of 16, 2 seeds | 1,000 "
        "| 0.990 (0.980 – 1.000) | 0.710 | 0.700 – 0.720 | – | – | 3.5 min |"
    )
    assert conditions == (
        "`detectors.py digit-scenes`, commit 0123456789, 2026-11-30, a processor, 2 cores (avx2), 2 threads, "
        "torch 2.14, torchvision 0.29"
    )


def test_verdicts_come_from_the_recorded_run_and_are_empty_without_one(tmp_path: Path) -> None:
    table = runpy.run_path(str(DOCS / "update_tables.py"))["reproduced_table"]
    assert table("degradation", folder=tmp_path) == ""
    verdict = {"claim": "a above b", "measured": "+1 points [0, 2]", "published": "", "tolerance": "above 0"}
    document = {
        "command": ["residual", "reproduce", "degradation"],
        "date": "2026-11-24T12:00:00+00:00",
        "hardware": {"name": "a processor", "device": "cpu", "threads": 2},
        "versions": {"python": "3.11", "torch": "2.14"},
        "verdicts": [{**verdict, "verdict": "PASS", "source": "a | b"}],
    }
    (tmp_path / "degradation-laptop.json").write_text(json.dumps(document))
    assert table("degradation", folder=tmp_path).splitlines() == [
        "| verdict | claim | measured | published | tolerance |",
        "|---|---|---|---|---|",
        "| PASS | a above b | +1 points [0, 2] |  | above 0 |",
        "",
        "`residual reproduce degradation`, 2026-11-24, a processor, 2 threads, torch 2.14",
    ]


def test_verdicts_in_chinese_have_no_english_left(tmp_path: Path) -> None:
    table = runpy.run_path(str(DOCS / "update_tables.py"))["reproduced_table"]
    verdict = {
        "claim": "test error of plain-56 above that of plain-20",
        "measured": "+1 points [0, 2]",
        "published": "",
        "tolerance": "interval of the difference above 0",
        "verdict": "PASS",
    }
    file = tmp_path / "degradation-laptop.json"
    file.write_text(json.dumps({"verdicts": [verdict]}))
    assert table("degradation", "zh", tmp_path).splitlines() == [
        "| 结论 | 论断 | 测得 | 已发表 | 判据 |",
        "|---|---|---|---|---|",
        "| 成立 | 测试误差：plain-56 高于 plain-20 | +1 个百分点 [0, 2] |  | 差值的 95 % 区间全部大于 0 |",
    ]
    for word, translation in {"FAIL": "不成立", "open": "未定"}.items():
        file.write_text(json.dumps({"verdicts": [{**verdict, "verdict": word}]}))
        assert f"| {translation} | 测试误差" in table("degradation", "zh", tmp_path)
    file.write_text(json.dumps({"verdicts": [{**verdict, "claim": "a above b"}]}))
    with pytest.raises(ValueError, match="'a above b' has no translation yet"):
        table("degradation", "zh", tmp_path)
