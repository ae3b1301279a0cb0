"""McNemar's test against scipy, the interval against the bootstrap; files that cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, chi2

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation import compare
from deepresidual.evaluation.intervals import mcnemar_p_value, paired_difference_interval


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (5, 0), (3, 9), (12, 12), (24, 0), (7, 17)])
def test_few_discordant_samples_get_the_exact_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("first", "second"), [(10, 15), (121, 59), (300, 517)])
def test_many_get_chi_squared_with_correction(first: int, second: int) -> None:
    statistic = (abs(first - second) - 1) ** 2 / (first + second)
    assert mcnemar_p_value(first, second) == pytest.approx(float(chi2.sf(statistic, 1)), rel=1e-10)
    # The exact test is near.
    exact = binomtest(first, first + second).pvalue
    assert mcnemar_p_value(first, second) == pytest.approx(exact, abs=0.01)


def test_equal_counts_are_no_evidence() -> None:
    assert mcnemar_p_value(40, 40) == 1


def test_a_published_example() -> None:
    # Agresti, Categorical Data Analysis, section 10.1: approval of the prime minister, 150 and 86 changed.
    low, high = paired_difference_interval(150, 86, 1600)
    assert (low, high) == pytest.approx((-0.0587, -0.0213), abs=3e-4)
    assert mcnemar_p_value(150, 86) == pytest.approx(4.1e-5, rel=0.1)


def test_the_interval_is_that_of_the_bootstrap() -> None:
    # Of 2,000 images 60 and 110 are right in one only.
    difference = np.repeat([-1.0, 1.0, 0.0], [60, 110, 1830])
    expected = bootstrap((difference,), np.mean, n_resamples=4000, rng=0).confidence_interval
    low, high = paired_difference_interval(60, 110, 2000)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_the_interval_covers_what_it_promises_in_small_samples() -> None:
    generator = np.random.default_rng(0)
    counts = generator.multinomial(40, [0.1, 0.2, 0.7], size=4000)
    intervals = [paired_difference_interval(int(first), int(second), 40) for first, second, _ in counts]
    assert 0.93 <= np.mean([low <= 0.1 <= high for low, high in intervals]) <= 0.98


# -- files ---------------------------------------------------------------------------------------------


def write(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    path.write_text("key,label,predicted\n" + "".join(f"{','.join(row)}\n" for row in rows))
    return path


def test_images_are_matched_by_name(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a.csv",
        [("1", "x", "x"), ("2", "x", "y"), ("3", "y", "y"), ("4", "y", "x"), ("5", "x", "x")],
    )
    other = [("5", "x", "y"), ("4", "y", "y"), ("3", "y", "y"), ("2", "x", "y"), ("1", "x", "y")]
    (tmp_path / "b.jsonl").write_text(
        "".join(
            json.dumps({"key": key, "label": label, "predicted": predicted}) + "\n"
            for key, label, predicted in other
        )
    )
    compared = compare(first, tmp_path / "b.jsonl")
    assert (compared.both_correct, compared.only_first, compared.only_second, compared.both_wrong) == (
        1,
        2,
        1,
        1,
    )
    assert compared.top1 == (0.6, 0.4)
    assert compared.difference == pytest.approx(-0.2)
    assert (compared.p_value, compared.test) == (1.0, "exact binomial")
    turned = compare(tmp_path / "b.jsonl", first)
    assert turned.difference_interval == pytest.approx(
        [-bound for bound in compared.difference_interval[::-1]]
    )


ROWS = [("1", "x", "x"), ("2", "x", "y")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:1], r"b\.csv has no result of '2'; expected the same images in both \(2 and 1 here\)"),
        ([*ROWS, ("3", "x", "x")], r"a\.csv has no result of '3'"),
        ([ROWS[0], ("2", "y", "y")], r"'2' is of class 'x' in .*a\.csv and 'y' in .*b\.csv"),
        ([*ROWS, ROWS[0]], "names '1' twice; expected one row for every image"),
        ([], "holds no results; evaluate again"),
    ],
)
def test_files_about_different_images_are_refused(
    tmp_path: Path, rows: list[tuple[str, str, str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        compare(write(tmp_path / "a.csv", ROWS), write(tmp_path / "b.csv", rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "b.csv",
            b"key,label\n1,x\n",
            "has no column 'predicted'; expected the columns key, label, predicted",
        ),
        ("b.csv", b"key,label,predicted\n1,x\n", "has a row '1', 'x', None; expected three strings"),
        ("b.csv", b"\xff\xfe\x00", r"b\.csv is damaged \(.*; evaluate again"),
        ("b.csv", b"", "holds no results"),
        ("b.jsonl", b"[1]\n", r"b\.jsonl is damaged \(a line is no JSON object\)"),
        ("b.jsonl", b"{'a'}\n", r"b\.jsonl is damaged"),
        ("b.jsonl", b"[" * 100_000, r"b\.jsonl is damaged"),
        ("b.jsonl", b'{"key": 1, "label": "x", "predicted": "x"}\n', "has a row 1, 'x', 'x'"),
        ("b.parquet", b"PAR1 nothing PAR1", r"b\.parquet is damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        compare(write(tmp_path / "a.csv", ROWS), tmp_path / name)


def test_missing_files_and_other_formats_are_named(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", ROWS)
    with pytest.raises(
        DataError, match=r"gone\.csv cannot be read \(No such file or directory\); expected a fi"
    ):
        compare(first, tmp_path / "gone.csv")
    with pytest.raises(
        ConfigurationError, match=r"b\.xlsx is no file of results; expected a name in \.csv, \.js"
    ):
        compare(first, tmp_path / "b.xlsx")
