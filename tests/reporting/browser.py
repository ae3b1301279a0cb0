"""A real browser without a screen: Chromium, as Debian packages it, or Chrome."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# Stands around a page, as wide as the screen that is looked at, and measures what the page has come to be.
_FRAME = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0 }}
iframe {{ border: 0; width: {width}px; height: {height}px }}</style>
<iframe id="page" src="{page}"></iframe><pre id="measured"></pre>
<script>
document.getElementById("page").addEventListener("load", () => {{
  const page = document.getElementById("page"), inside = page.contentDocument, view = page.contentWindow;
  const color = element => view.getComputedStyle(element).color;
  const texts = [...inside.querySelectorAll("svg text")];
  const cut = texts.filter(text => {{
    const box = text.getBoundingClientRect(), chart = text.closest("svg").getBoundingClientRect();
    return box.left < chart.left - 1 || box.right > chart.right + 1 || box.top < chart.top - 1
      || box.bottom > chart.bottom + 1;
  }});
  const scrolls = element => element.closest(".wide") !== null;
  const outside = [...inside.querySelectorAll("body *")].filter(
    element => !scrolls(element) && element.getBoundingClientRect().right > {width} + 1);
  document.getElementById("measured").textContent = JSON.stringify({{
    headings: [...inside.querySelectorAll("h2")].map(heading => heading.textContent),
    width: inside.documentElement.scrollWidth,
    outside: outside.map(element => element.tagName),
    images: [...inside.images].map(image => image.naturalWidth),
    charts: [...inside.querySelectorAll("svg")].map(chart => chart.getBoundingClientRect().width),
    chart_rows: new Set([...inside.querySelectorAll(".charts")[0].children].map(
      chart => chart.getBoundingClientRect().top)).size,
    cut: cut.map(text => text.textContent),
    smallest_text: Math.min(...texts.map(text => parseFloat(view.getComputedStyle(text).fontSize)
      * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b))),
    paper: view.getComputedStyle(inside.body).backgroundColor,
    ink: color(inside.body),
    soft: color(inside.querySelector(".sub")),
    chart_ink: view.getComputedStyle(texts[0]).fill,
    requests: view.performance.getEntriesByType("resource").map(entry => entry.name),
  }});
}});
</script>"""


# Loads a page as wide as the screen, unfolds it, and lets axe-core look at it.
_AXE_FRAME = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0 }}
iframe {{ border: 0; width: {width}px; height: {height}px }}</style>
<iframe id="page" src="{page}"></iframe><pre id="measured"></pre>
<script>
document.getElementById("page").addEventListener("load", () => {{
  const page = document.getElementById("page"), inside = page.contentDocument, view = page.contentWindow;
  inside.querySelectorAll("details").forEach(part => part.open = true);
  const script = inside.createElement("script");
  script.src = "{axe}";
  script.addEventListener("load", () => view.axe.run(inside).then(found => {{
    document.getElementById("measured").textContent = JSON.stringify({{
      width: inside.documentElement.scrollWidth,
      passes: found.passes.length,
      violations: found.violations.map(one => [one.id, one.nodes.map(node => node.html.slice(0, 200))]),
    }});
  }}));
  inside.head.append(script);
}});
</script>"""


def browser() -> str:
    """Return the program; skip the test where there is none, but not in continuous integration."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("continuous integration has no browser: 'make browser' installs one")
    if found is None:
        pytest.skip("there is no Chromium or Chrome on this machine; 'make browser' installs one")
    return found


def measured(page: Path, folder: Path, width: int, height: int, *, dark: bool = False) -> dict[str, Any]:
    """Return what a page comes to be on a screen of a width, in CSS pixels."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(_FRAME.format(page=page.resolve().as_uri(), width=width, height=height))
    return _read(folder, frame, dark=dark)


def inspected(page: Path, axe: Path, folder: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """Return what axe-core, the file ``axe``, finds in a page with everything unfolded."""
    frame = folder / f"axe-{width}.html"
    addresses = {"page": page.resolve().as_uri(), "axe": axe.resolve().as_uri()}
    frame.write_text(_AXE_FRAME.format(**addresses, width=width, height=3000))
    return _read(folder, frame, dark=dark)


def _read(folder: Path, frame: Path, *, dark: bool) -> dict[str, Any]:
    # A page inside a page of a file may be looked into with this switch only.
    text = run_browser(
        folder,
        frame,
        "--dump-dom",
        "--allow-file-access-from-files",
        "--virtual-time-budget=20000",
        dark=dark,
    )
    found = re.search(r'<pre id="measured">(.+?)</pre>', text, re.DOTALL)
    assert found, f"the browser has measured nothing: {text[-2000:]}"
    result: dict[str, Any] = json.loads(unescape(found.group(1)))
    return result


def screenshot(page: Path, folder: Path, width: int, height: int, *, dark: bool = False) -> Path:
    """Return a PNG of a page on a screen of a size in pixels, 500 wide at least."""
    path = folder / f"screenshot-{width}{'-dark' if dark else ''}.png"
    run_browser(
        folder,
        page,
        f"--screenshot={path}",
        f"--window-size={width},{height}",
        "--hide-scrollbars",
        dark=dark,
    )
    return path


def run_browser(folder: Path, page: Path, *options: str, dark: bool) -> str:
    """Run the browser on a page and return what it prints."""
    command = [
        browser(),
        "--headless=new",
        "--no-sandbox",  # which the superuser of a container cannot have
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        f"--user-data-dir={folder / 'profile'}",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        *options,
        page.resolve().as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
