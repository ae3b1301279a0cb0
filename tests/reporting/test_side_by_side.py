"""Several runs on one page: which settings differ, whose figures compare, and what is never overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.reporting import write_side_by_side
from deepresidual.reporting.charts import run_style
from deepresidual.reporting.pages import settings_of
from deepresidual.reporting.side_by_side import _letter
from tests.reporting.page import Page

Capture = pytest.CaptureFixture[str]


def twin(finished: Path, path: Path, **plan: Any) -> Path:
    """Return a copy of a run with another plan."""
    shutil.copytree(finished, path)
    record = json.loads((path / "run.json").read_text())
    recipe = {**record["plan"]["recipe"], **plan.pop("recipe", {})}
    record["plan"] = {**record["plan"], **plan, "recipe": recipe}
    (path / "run.json").write_text(json.dumps(record))
    return path


def tables(page: Path) -> list[list[list[str]]]:
    document = Page(page.read_text())
    return [document.rows(table) for table in document.all("table")]


def test_it_shows_curves_figures_and_the_settings_that_differ(finished: Path, tmp_path: Path) -> None:
    other = twin(finished, tmp_path / "other", seed=7, model="plain20", recipe={"learning_rate": 0.025})
    page = write_side_by_side([finished, other], tmp_path / "comparison.html")
    document = Page(page.read_text())
    assert len(document.all("svg")) == 4  # error and loss, in training and on the test images
    figures, differences = tables(page)
    evaluation = json.loads((finished / "evaluation.json").read_text())
    assert [row[0] for row in figures[1:]] == ["A", "B"]
    assert figures[1][1].startswith(str(finished))
    assert f"{100 * evaluation['top1']:.2f} %" in figures[1][2]
    assert figures[1][2:] == figures[2][2:]
    assert figures[0][3].startswith("always the most")
    assert figures[1][3].startswith("33.33 %")
    assert "top-5" not in figures[0]
    rates = {row[0]: row[1:] for row in differences[1:]}
    assert rates.pop("recipe.learning_rate")[1] == "0.025"
    assert rates == {"model": ["resnet20", "plain20"], "seed": ["0", "7"]}
    assert "do not compare" not in document.text


def test_runs_of_one_plan_have_no_difference(finished: Path, tmp_path: Path) -> None:
    page = write_side_by_side([finished, twin(finished, tmp_path / "b")], tmp_path / "page.html")
    assert "None: the runs are of one plan." in Page(page.read_text()).text


def test_figures_on_different_images_are_said_not_to_compare(finished: Path, tmp_path: Path) -> None:
    other = twin(finished, tmp_path / "other", fingerprint={"train": "x", "test": "y"})
    page = write_side_by_side([finished, other], tmp_path / "page.html")
    assert "measured on different images: their figures do not compare" in Page(page.read_text()).text
    path = other / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "split": "val"}))
    page = write_side_by_side([finished, other], tmp_path / "page.html")
    assert "on different splits (test, val): their figures do not compare" in Page(page.read_text()).text


def test_a_run_that_has_just_begun_is_compared_by_what_there_is(finished: Path, tmp_path: Path) -> None:
    young = twin(finished, tmp_path / "young")
    (young / "evaluation.json").unlink()
    (young / "metrics.jsonl").write_text("")
    page = write_side_by_side([finished, young], tmp_path / "page.html")
    figures, *_ = tables(page)
    assert figures[2][2:10] == ["–"] * 8
    assert len(Page(page.read_text()).all("svg")) == 4


def test_names_of_runs_are_escaped(finished: Path, tmp_path: Path) -> None:
    other = twin(finished, tmp_path / "<img src=x onerror=alert(1)>", data="$x_1$ <b>")
    text = write_side_by_side([finished, other], tmp_path / "page.html").read_text()
    assert Page(text).all("img") == []
    assert Page(text).scripts() == []


def test_many_runs_have_letters_and_styles_of_their_own(finished: Path, tmp_path: Path) -> None:
    assert [_letter(number) for number in (0, 25, 26, 53)] == ["A", "Z", "A2", "B3"]
    assert len({str(run_style(number)) for number in range(32)}) == 32
    neighbours = [(run_style(number), run_style(number + 1)) for number in range(31)]
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in neighbours)


def test_settings_are_flat_and_readable() -> None:
    assert settings_of({"a": {"b": 0.1, "c": {"d": None}}, "e": [1, True], "f": "", "g": 1e-05}) == {
        "a.b": "0.1",
        "a.c.d": "–",
        "e": "1, yes",
        "f": "–",
        "g": "1e-05",
    }


def test_somebody_elses_file_is_not_overwritten(finished: Path, tmp_path: Path) -> None:
    runs = [finished, twin(finished, tmp_path / "b")]
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>my own")
    with pytest.raises(
        ConfigurationError, match="page.html is no page of this command and would be overwritten"
    ):
        write_side_by_side(runs, page)
    assert page.read_text() == "<!doctype html>my own"
    page.unlink()
    first = write_side_by_side(runs, page).read_bytes()
    assert write_side_by_side(runs, page).read_bytes() == first
    with pytest.raises(ConfigurationError, match="is a folder; expected a file"):
        write_side_by_side(runs, tmp_path)


def test_what_cannot_be_compared_is_refused(finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(ConfigurationError, match="there is 1 run to compare; expected two or more"):
        write_side_by_side([finished], page)
    with pytest.raises(ConfigurationError, match="is named twice"):
        write_side_by_side([finished, finished / ".." / finished.name], page)
    with pytest.raises(ConfigurationError, match="holds no run"):
        write_side_by_side([finished, tmp_path], page)
    damaged = twin(finished, tmp_path / "damaged")
    (damaged / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(ModelFileError, match=r"damaged/metrics\.jsonl is damaged \(line 1: Expecting value"):
        write_side_by_side([finished, damaged], page)
    assert not page.exists()


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_the_report_of_a_run_again(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = twin(finished, tmp_path / "run")
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    written = (finished / "report.html").read_text().replace(str(finished), str(run))  # commands name it
    assert (run / "report.html").read_text() == written
    assert main(["report", str(run), "--out", str(tmp_path / "elsewhere.html"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "schema_version": 1,
        "report": str(tmp_path / "elsewhere.html"),
        "runs": [str(run)],
    }
    assert (tmp_path / "elsewhere.html").read_text() == written


def test_the_command_compares_several(
    finished: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    twin(finished, tmp_path / "b")
    assert main(["report", str(finished), "b"]) == 0
    assert capsys.readouterr().out == "comparison.html\n"
    assert "2 runs compared" in Page(Path("comparison.html").read_text()).text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "there is no RUN; expected one or more run folders"),
        (["nowhere"], 2, "nowhere holds no run"),
        (["RUN", "RUN"], 2, "is named twice"),
        (["RUN", "--out", "nowhere/page.html"], 1, "cannot write nowhere/page.html"),
    ],
)
def test_bad_input_is_one_line(
    finished: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(word.replace("RUN", str(finished)) for word in arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []
