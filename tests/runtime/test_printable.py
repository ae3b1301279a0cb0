"""Names as people see them: on one line, without what steers a terminal, and of bounded length."""

from __future__ import annotations

import pytest

from deepresidual.runtime.console import warn
from deepresidual.runtime.printable import printable, shortened, wrapped


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ant", "ant"),
        ("Größe 大\u3000象 🐘", "Größe 大\u3000象 🐘"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J\x9b1m\x7f", r"\x1b[2J\x9b1m\x7f"),
        ("caf\udce9", r"caf\udce9"),
        ("gpj.\u202eevil\u200f", r"gpj.\u202eevil\u200f"),
        ("a\u2028b\ufeff", r"a\u2028b\ufeff"),
    ],
)
def test_what_is_not_printed_is_an_escape(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(shown) == shown


def test_a_long_text_keeps_both_ends() -> None:
    assert shortened("x" * 80, 80) == "x" * 80
    assert shortened("0123456789", 7) == "012…789"
    cut = shortened("begin" + 200_000 * "\n" + "end", 41)
    assert len(cut) == 41
    assert cut.startswith(r"begin\n\n")
    assert cut.endswith(r"\nend")


def test_nothing_in_a_name_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    warn("[red]a[/red]:bug:[/].jpg[bold: no image")
    assert capsys.readouterr().err == "warning: [red]a[/red]:bug:[/].jpg[bold: no image\n"


def test_a_warning_of_a_name_of_megabytes_stays_short(capsys: pytest.CaptureFixture[str]) -> None:
    warn(f"{'A' * 1_000_000}[red]: not an image")
    err = capsys.readouterr().err
    assert len(err) < 5_000
    assert err.endswith("A[red]: not an image\n")


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("short", ["short"]),
        ("one two three four", ["one two", "three four"]),
        ("a   one two three", ["a   one two", "    three"]),
        ("    one two three", ["    one two", "    three"]),
        ("see photos/cats-and-dogs/1.jpg now", ["see", "photos/cats-and-dogs/1.jpg", "now"]),
        ("a-label-that-is-long  one two", ["a-label-that-is-long", "one two"]),
    ],
)
def test_a_line_is_broken_between_words(line: str, lines: list[str]) -> None:
    assert wrapped(line, 11) == lines
