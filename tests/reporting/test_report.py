"""The report: one file that loads nothing, runs nothing, and escapes what comes from the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.reporting import write_report
from deepresidual.reporting.pages import rounded_percent
from deepresidual.runs.intervals import wilson_interval
from tests.reporting.conftest import HOSTILE
from tests.reporting.page import Page


def changed(finished: Path, tmp_path: Path, **fields: Any) -> Path:
    """Return a copy of a run whose evaluation has other fields."""
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return tmp_path / "run"


def test_the_report_shows_curves_classes_reliability_and_images(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    evaluation = json.loads((finished / "evaluation.json").read_text())
    assert page.texts("h2") == [
        "What would help most",
        "What is taken for what",
        "The surest mistakes",
        "When can you believe it?",
        "How it learned",
        "Use it",
        "How it was made",
    ]
    links = [link.get("href", "") for link in page.all("a")]
    assert {f"#{section.get('id')}" for section in page.all("section")} <= {*links}
    assert len(page.all("svg")) == 3
    mistakes, best = len(evaluation["mistakes"]), min(2, len(evaluation["best"]))
    assert mistakes + best > 2
    assert len(page.all("figure")) == mistakes + best
    assert len(page.all("img")) == 2 * (mistakes + best)  # each with its heat map
    right = evaluation["top1_count"]
    assert page.texts("h1")[0].startswith(f"{right} of 12 held\u2011out images are named right: ")
    assert f"Always answering '{HOSTILE}' would get 33 %." in page.text
    figures = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    low, high = evaluation["top1_interval"]
    assert figures["95 % interval (Wilson)"] == f"{100 * low:.2f} – {100 * high:.2f} %"
    assert figures["top-1"] == f"{100 * evaluation['top1']:.2f} %"
    assert "top-5" not in page.text


def test_recall_and_precision_are_those_of_the_evaluation(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    evaluation = json.loads((finished / "evaluation.json").read_text())
    (table,) = page.all("table", "recalls")
    rows = {row[0]: row for row in page.rows(table)[1:]}
    assert len(rows) == 3
    for figures in evaluation["per_class"]:
        _, found, _, interval, named = rows[figures["name"]]
        right = round(figures["recall"] * figures["support"])
        assert found.startswith(f"{right} of {figures['support']} (")
        low, high = wilson_interval(right, figures["support"])
        assert interval == f"{rounded_percent(low)} – {rounded_percent(high)}".replace("\xa0", " ")
        expected = f"{right} of {figures['num_predicted']} (" if figures["num_predicted"] else "never named"
        assert named.startswith(expected)
    shares = [int(row[1].split()[0]) / int(row[1].split()[2]) for row in rows.values()]
    assert shares == sorted(shares)


def test_the_matrix_counts_every_image_once(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    (table,) = page.all("table", "matrix")
    rows = page.rows(table)
    assert sorted(rows[0][1:-1]) == sorted(["blue", "green", HOSTILE])
    counts = [
        [int(cell.text or 0) for cell in row if cell.get("class") == "cell"] for row in table.iter("tr")
    ]
    assert all(sum(row) == 4 for row in counts[1:])
    assert [row[-1] for row in rows[1:]] == ["4"] * 3


def test_the_recipe_is_there_in_full(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    recipe = json.loads((finished / "run.json").read_text())["plan"]["recipe"]
    names = page.texts("dt")
    expected = [name for name, value in recipe.items() if not isinstance(value, dict)]
    expected += [f"augment.{name}" for name in recipe["augment"]]
    assert set(expected) <= set(names)
    values = dict(zip(names, page.texts("dd"), strict=True))
    assert values["batch_size"] == "6"
    assert values["augment.crop"] == recipe["augment"]["crop"]


@pytest.mark.parametrize("page", ["report", "comparison"])
def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(finished: Path, tmp_path: Path, page: str) -> None:
    from deepresidual.reporting import write_side_by_side

    path = finished / "report.html"
    if page == "comparison":
        shutil.copytree(finished, tmp_path / "other")
        path = write_side_by_side([finished, tmp_path / "other"], tmp_path / "comparison.html")
    document = Page(path.read_text())
    assert document.loads() == []
    assert document.scripts() == []
    assert len(document.all("svg")) >= 3


def test_names_from_the_data_are_escaped(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    assert "<script>alert" not in text
    assert HOSTILE in Page(text).text
    assert "&lt;script&gt;alert(1)&lt;" in text


def test_the_report_judges_first(finished: Path, tmp_path: Path) -> None:
    run = changed(
        finished,
        tmp_path,
        classes=["ants", HOSTILE],
        confusions=[[0, 0, 20], [0, 1, 50], [1, 0, 10], [1, 1, 73]],
        count=153,
        top1_interval=[0.53, 0.68],
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["top1"] = 0.9 if line["event"] == "train" else line["top1"]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    page = Page(write_report(run).read_text())
    assert page.texts("h1") == ["93 of 153 held\u2011out images are named right: 61 %"]
    (verdict,) = page.all("p", "verdict")
    assert " ".join((verdict.text or "").split()) == (
        f"Other images would likely give between 53 % and 68 %. Always answering '{HOSTILE}' would get 54 %. "
        f"It is not shown to be better than always answering '{HOSTILE}'."
    )
    assert "It overfits: 90 % right on its own training images, 61 % on new ones." in page.text


def test_the_report_of_many_classes_has_top5(finished: Path, tmp_path: Path) -> None:
    names = [f"class{number}" for number in range(11)]
    page = Page(write_report(changed(finished, tmp_path, classes=names)).read_text())
    assert "top-5" in page.text


def test_a_perfect_run_says_so(finished: Path, tmp_path: Path) -> None:
    run = changed(
        finished,
        tmp_path,
        mistakes=[],
        top1=1.0,
        confusions=[[row, row, 4] for row in range(3)],
        top1_interval=None,
    )
    assert "None: every image of test was recognized." in write_report(run).read_text()


def test_many_classes_are_listed_by_their_confusions_and_recall(finished: Path, tmp_path: Path) -> None:
    confusions = [[0, 1, 5], [0, 0, 15], [1, 1, 90], [7, 3, 9]]
    names = [f"class{number}" for number in range(1000)]
    run = changed(finished, tmp_path, classes=names, confusions=confusions, count=119)
    page = Page(write_report(run).read_text())
    assert page.all("table", "matrix") == []
    assert len(page.all("img", "grid")) == 1
    (table,) = page.all("table", "confusions")
    assert page.rows(table)[1:] == [["class7", "class3", "9"], ["class0", "class1", "5"]]
    (table,) = page.all("table", "recalls")
    assert [(row[0], row[1], row[4]) for row in page.rows(table)[1:]] == [
        ("class7", "0 of 9 (0 %)", "never named"),
        ("class0", "15 of 20 (75 %)", "15 of 15 (100 %)"),
        ("class1", "90 of 90 (100 %)", "90 of 95 (95 %)"),
    ]


def test_a_run_of_an_older_version_has_a_report(finished: Path, tmp_path: Path) -> None:
    run = changed(finished, tmp_path)
    path = run / "evaluation.json"
    evaluation = json.loads(path.read_text())
    for name in (
        *("bins", "best", "ece", "top1_interval", "per_class", "top1_count", "top5_count"),
        *("baseline_top1", "baseline_class"),
    ):
        del evaluation[name]
    path.write_text(json.dumps(evaluation))
    shutil.rmtree(run / "heat-maps")
    shutil.rmtree(run / "best")
    page = Page(write_report(run).read_text())
    assert len(page.all("svg")) == 2
    assert len(page.all("img")) == len(evaluation["mistakes"])
    assert "When can you believe it?" not in page.texts("h2")
    assert "Grad-CAM" not in page.text


def test_pictures_that_are_none_are_left_out(finished: Path, tmp_path: Path) -> None:
    run = changed(finished, tmp_path)
    before = len(Page((run / "report.html").read_text()).all("img"))
    (run / "best" / "00.png").write_text("<svg onload=alert(1)>")
    (run / "heat-maps" / "mistake-01.png").unlink()
    assert len(Page(write_report(run).read_text()).all("img")) == before - 3


def test_the_same_files_give_the_same_page(finished: Path, tmp_path: Path) -> None:
    run = changed(finished, tmp_path)
    first, second = write_report(run).read_bytes(), write_report(run, tmp_path / "page.html").read_bytes()
    assert first == second


def still_running(finished: Path, tmp_path: Path) -> Path:
    """Return a run folder as it is in the middle: no evaluation, no mistakes, half of the metrics."""
    run = tmp_path / "run"
    run.mkdir()
    record = json.loads((finished / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running", "step": 3}))
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines[:3]))
    return run


def reloads(page: Page) -> list[str | None]:
    return [tag.get("content") for tag in page.all("meta") if tag.get("http-equiv") == "refresh"]


def test_a_run_that_is_running_shows_what_there_is(finished: Path, tmp_path: Path) -> None:
    text = write_report(still_running(finished, tmp_path)).read_text()
    assert "This run is running, after 3 of " in text
    assert len(Page(text).all("svg")) == 2
    assert "What is taken for what" not in text


def test_a_run_that_has_not_logged_yet_has_a_report(finished: Path, tmp_path: Path) -> None:
    run = still_running(finished, tmp_path)
    (run / "metrics.jsonl").write_text("")
    page = Page(write_report(run).read_text())
    assert page.all("svg") == []


def test_the_page_reloads_itself_while_the_run_is_running(finished: Path, tmp_path: Path) -> None:
    assert reloads(Page(write_report(still_running(finished, tmp_path)).read_text())) == ["30"]


@pytest.mark.parametrize("status", ["finished", "interrupted", "diverged", "failed"])
def test_the_page_of_a_run_that_has_ended_stays(finished: Path, tmp_path: Path, status: str) -> None:
    run = still_running(finished, tmp_path)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": status}))
    assert reloads(Page(write_report(run).read_text())) == []


def test_the_report_of_a_finished_run_does_not_reload(finished: Path) -> None:
    assert reloads(Page((finished / "report.html").read_text())) == []


def test_a_line_that_is_being_written_is_not_read_yet(finished: Path, tmp_path: Path) -> None:
    run = still_running(finished, tmp_path)
    whole = write_report(run).read_text()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "st')
    assert write_report(run).read_text() == whole


def test_the_report_replaces_no_other_file(finished: Path, tmp_path: Path) -> None:
    mine = tmp_path / "page.html"
    mine.write_text("mine")
    with pytest.raises(
        ConfigurationError, match="page.html is no page of this command and would be overwritten"
    ):
        write_report(finished, mine)
    assert mine.read_text() == "mine"


# -- damage ------------------------------------------------------------------------------------------------


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="holds no run; expected a folder that 'residual train' has made"
    ):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("run.json", lambda _: "{", r"Expecting property name"),
        ("run.json", lambda _: "[]", r"it is a list of 0, not an object"),
        ("run.json", lambda _: '{"a":' * 100_000, r"nested too deep"),
        ("run.json", lambda _: '{"a":' * 300 + "1" + "}" * 300, r"nested too deep"),
        ("run.json", lambda run: {**run, "plan": {}}, r"plan\.model is missing"),
        ("run.json", lambda run: {**run, "status": 3}, r"status is 3, not text"),
        ("run.json", lambda run: {**run, "step": "x"}, r"step is 'x', not a whole number from 0 on"),
        ("run.json", lambda run: {**run, "step": True}, r"step is true, not a whole number from 0 on"),
        ("run.json", lambda run: {**run, "hardware": None}, r"hardware is null, not an object"),
        (
            "run.json",
            lambda run: {**run, "versions": {"torch": 2}},
            r"versions\.torch is 2, not text or null",
        ),
        ("metrics.jsonl", lambda _: "{}\n", r"line 1: event is missing"),
        (
            "metrics.jsonl",
            lambda _: '{"event": "train", "step": 1, "epoch": 1, "top1": 0.5, "loss": NaN}\n',
            r"line 1: NaN is no JSON",
        ),
        (
            "metrics.jsonl",
            lambda _: '{"event": "train", "step": 1, "epoch": 1, "top1": 0.5, "loss": 1e999}\n',
            r"line 1: the number 1e999 is too large",
        ),
        (
            "metrics.jsonl",
            lambda _: '{"event": "train", "step": 1, "epoch": 1, "top1": 0.5, "loss": 1' + "0" * 400 + "}\n",
            r"line 1: the number 10+ is too large",
        ),
        (
            "metrics.jsonl",
            lambda _: '{"event": "evaluation", "step": 1, "epoch": 1, "top1": 0.5, "loss": 1, "split": 3}\n',
            r"line 1: split is 3, not text",
        ),
        ("metrics.jsonl", lambda _: b"\xff\n", r"line 1: a byte that is no UTF-8"),
        ("evaluation.json", lambda it: {**it, "top1": "1"}, r"top1 is '1', not a number from 0 to 1"),
        ("evaluation.json", lambda it: {**it, "classes": [5]}, r"classes\[0\] is 5, not text"),
        ("evaluation.json", lambda it: {**it, "confusions": [[0, 9, 1]]}, r"confusions\[0\] is \[0, 9, 1\]"),
        ("evaluation.json", lambda it: {**it, "confusions": [[0, 0]]}, r"confusions\[0\] is \[0, 0\], not"),
        ("evaluation.json", lambda it: {**it, "confusions": [[0, 0, -1]]}, r"confusions\[0\]\[2\] is -1"),
        ("evaluation.json", lambda it: {**it, "bins": [{}]}, r"bins\[0\]\.low is missing"),
        ("evaluation.json", lambda it: {**it, "best": 3}, r"best is 3, not a list"),
        (
            "evaluation.json",
            lambda it: {**it, "ece": "low"},
            r"ece is 'low', not a number from 0 to 1 or null",
        ),
        (
            "evaluation.json",
            lambda it: {**it, "top1_interval": [1]},
            r"top1_interval is a list of 1, not of 2",
        ),
        ("evaluation.json", lambda it: {**it, "top1_interval": [0, "1"]}, r"top1_interval is a list of 2"),
        ("evaluation.json", lambda it: {**it, "mistakes": ["x"]}, r"mistakes\[0\] is 'x', not an object"),
    ],
)
def test_a_damaged_run_is_named_and_leaves_the_page_as_it_was(
    finished: Path, tmp_path: Path, file: str, change: Any, message: str
) -> None:
    run = changed(finished, tmp_path)
    path = run / file
    before = (run / "report.html").read_bytes()
    after = change(json.loads(path.read_text()) if path.suffix == ".json" else None)
    after = after if isinstance(after, str | bytes) else json.dumps(after)
    path.write_bytes(after.encode() if isinstance(after, str) else after)
    with pytest.raises(ModelFileError, match=f"{file} is damaged \\({message}"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
