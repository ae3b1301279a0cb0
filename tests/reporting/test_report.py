"""The report: one file that loads nothing, runs nothing, and escapes what comes from the data."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from residual.errors import ModelFileError
from residual.reporting import write_report
from residual.training import train
from tests.conftest import write_photos


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    photos = root / "photos"
    write_photos(photos / "train", 6)
    write_photos(photos / "test", 4)
    for part in ("train", "test"):
        (photos / part / "red").rename(photos / part / "<script>alert(1)<")
    train(
        photos,
        "resnet20",
        root / "run",
        changes={"epochs": 2.0, "batch_size": 6},
        image_px=8,
        num_workers=0,
        precision="fp32",
    )
    return root / "run"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_shows_curves_matrix_and_mistakes(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    page = Page(text)
    assert sum(tag == "svg" for tag, _ in page.tags) == 1
    assert "Confusion matrix" in text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == len(list((finished / "mistakes").glob("*.png")))


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name == "src"]
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    assert "url(http" not in text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_names_from_the_data_are_escaped(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;" in text


def test_a_perfect_run_says_so(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    evaluation = (tmp_path / "run" / "evaluation.json").read_text()
    text = re.sub(r'"mistakes": \[.*\]', '"mistakes": []', evaluation, flags=re.DOTALL)
    (tmp_path / "run" / "evaluation.json").write_text(text)
    assert "None: every image of test was recognized." in write_report(tmp_path / "run").read_text()


def test_many_classes_are_listed_by_their_confusions(finished: Path, tmp_path: Path) -> None:
    import json

    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["classes"] = [f"class{number}" for number in range(1000)]
    evaluation["confusions"] = [[0, 1, 5], [1, 1, 90], [7, 3, 9]]
    path.write_text(json.dumps(evaluation))
    text = write_report(tmp_path / "run").read_text()
    assert "Confusion matrix" not in text
    assert text.index('<td class="text">class7</td>') < text.index('<td class="text">class0</td>')


def test_a_damaged_run_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ModelFileError, match="the run in .* cannot be read"):
        write_report(tmp_path / "run")


def still_running(finished: Path, tmp_path: Path) -> Path:
    """Return a run folder as it is in the middle: no evaluation, no mistakes, half of the metrics."""
    import json

    run = tmp_path / "run"
    run.mkdir()
    record = json.loads((finished / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running", "step": 3}))
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines[:3]))
    return run


def reloads(page: Page) -> list[str | None]:
    return [
        attributes.get("content")
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "refresh"
    ]


def test_a_run_that_is_running_shows_what_there_is(finished: Path, tmp_path: Path) -> None:
    text = write_report(still_running(finished, tmp_path)).read_text()
    assert "This run is running." in text
    assert "3 of " in text
    assert sum(tag == "svg" for tag, _ in Page(text).tags) == 1
    assert "Confusion matrix" not in text


def test_a_run_that_has_not_logged_yet_has_a_report(finished: Path, tmp_path: Path) -> None:
    run = still_running(finished, tmp_path)
    (run / "metrics.jsonl").write_text("")
    page = Page(write_report(run).read_text())
    assert not [tag for tag, _ in page.tags if tag == "svg"]


def test_the_page_reloads_itself_while_the_run_is_running(finished: Path, tmp_path: Path) -> None:
    assert reloads(Page(write_report(still_running(finished, tmp_path)).read_text())) == ["30"]


@pytest.mark.parametrize("status", ["finished", "interrupted", "diverged", "failed"])
def test_the_page_of_a_run_that_has_ended_stays(finished: Path, tmp_path: Path, status: str) -> None:
    import json

    run = still_running(finished, tmp_path)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": status}))
    assert reloads(Page(write_report(run).read_text())) == []


def test_the_report_of_a_finished_run_does_not_reload(finished: Path) -> None:
    assert reloads(Page((finished / "report.html").read_text())) == []
