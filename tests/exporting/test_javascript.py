"""The example in JavaScript, in a real browser: the same files, the same probabilities."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from deepresidual.data.decode import decode
from deepresidual.exporting import export
from deepresidual.models import load_torch
from tests.data.pictures import noise, waves
from tests.docs.pages import DOCS, blocks
from tests.reporting.browser import browser

if TYPE_CHECKING:
    from deepresidual.models import TorchClassifier

EXAMPLE = Path(__file__).parents[2] / "examples" / "javascript"
MODEL = "resnet20-cifar10"

expect.set_options(timeout=60_000)  # a machine that is busy takes its time

_BYTES = "const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and keeps no log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def node_modules() -> Path:
    """Return what npm has installed; skip the test where it has not, but not in continuous integration."""
    folder = EXAMPLE / "node_modules"
    if not (folder / "onnxruntime-web").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail("continuous integration has no ONNX Runtime Web: 'make browser' installs it")
        pytest.skip("ONNX Runtime Web is not installed; 'make browser' does that")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the example, served from loopback without special headers, with a model beside it."""
    folder = tmp_path_factory.mktemp("site") / "javascript"
    modules = node_modules()
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "model"))
    (folder / "node_modules").symlink_to(modules)
    export(MODEL, folder / "model")
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(site: str) -> Iterator[Page]:
    """The page with the model open."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser(), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        opened = chromium.new_context().new_page()
        opened.goto(f"{site}/index.html")
        yield opened
        chromium.close()


@pytest.fixture(scope="module")
def model() -> TorchClassifier:
    return load_torch(MODEL)


def as_text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


@pytest.mark.test_all
def test_the_page_names_the_classes_of_a_photo(page: Page, model: TorchClassifier, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(waves(120, 160)).save(photo)
    expect(page.locator("input")).to_be_enabled()
    assert page.evaluate("crossOriginIsolated") is False
    page.locator("input").set_input_files(photo)
    expect(page.locator("[role=status]")).to_contain_text("160×120 px")
    (answer,) = model.predict(photo, top_k=5)
    shown = [row.split("\t") for row in page.locator("tbody").inner_text().splitlines()]
    assert shown == [
        [label, f"{100 * probability:.1f} %"]
        for label, probability in zip(answer.classes, answer.probabilities, strict=True)
    ]


@pytest.mark.test_all
def test_the_page_is_for_readers_of_all_kinds(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.test_all
@pytest.mark.parametrize("size", [(375, 500), (61, 40), (32, 32), (20, 300)])
def test_the_probabilities_of_a_photo_are_those_of_predict(
    page: Page, model: TorchClassifier, size: tuple[int, int]
) -> None:
    photo = noise(*size)
    found = page.evaluate(
        f"""async ([text, width, height]) => {{
          {_BYTES}
          const {{ Classifier }} = await import("./classifier.js");
          const classifier = await Classifier.open("model");
          return classifier.classify({{ data: bytes(text), width, height }}, 10);
        }}""",
        [as_text(photo.tobytes()), size[1], size[0]],
    )
    expected = model.probabilities(model.logits(model.preprocess.center_view(photo)[None]))[0]
    for one in found:
        index = model.label_names.index(one["label"])
        assert one["probability"] == pytest.approx(expected[index], abs=1e-5)
    assert found[0]["label"] == model.label_names[int(expected.argmax())]
    assert len(found) == 10


@pytest.mark.test_all
def test_the_code_of_the_documentation_runs(page: Page, model: TorchClassifier) -> None:
    (block,) = (block for block in blocks(DOCS / "how-to" / "javascript.md") if block.kind == "js")
    photo = noise(40, 50)
    code = block.text.replace(
        'import { Classifier, readPhoto } from "./classifier.js";',
        'const { Classifier, readPhoto } = await import("./classifier.js");',
    )
    with page.expect_console_message() as message:
        page.evaluate(
            f"async (text) => {{ {_BYTES} const file = new File([bytes(text)], 'photo.png'); {code} }}",
            as_text(encoded(Image.fromarray(photo), "PNG")),
        )
    (answer,) = model.predict(photo)
    label, probability = message.value.text.split()
    assert label == answer.classes[0]
    assert float(probability) == pytest.approx(answer.probabilities[0], abs=1e-5)


@pytest.mark.test_all
def test_the_probabilities_of_views_are_those_of_predict(page: Page, model: TorchClassifier) -> None:
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    found = page.evaluate(
        f"""async (text) => {{
          {_BYTES}
          const {{ Classifier }} = await import("./classifier.js");
          const classifier = await Classifier.open("model/");
          return Array.from(await classifier.probabilities(bytes(text)));
        }}""",
        as_text(views.tobytes()),
    )
    expected = model.probabilities(model.logits(views))
    assert np.reshape(found, expected.shape) == pytest.approx(expected, abs=1e-5)


@pytest.mark.test_all
@pytest.mark.parametrize("kind", ["JPEG", "turned JPEG", "gray JPEG", "PNG", "transparent PNG", "WebP"])
def test_the_browser_decodes_as_residual_does(page: Page, kind: str) -> None:
    picture = Image.fromarray(waves(75, 100))
    turned = Image.Exif()
    turned[0x0112] = 6
    content = {
        "JPEG": lambda: encoded(picture, "JPEG"),
        "turned JPEG": lambda: encoded(picture, "JPEG", exif=turned),
        "gray JPEG": lambda: encoded(picture.convert("L"), "JPEG"),
        "PNG": lambda: encoded(picture, "PNG"),
        "transparent PNG": lambda: encoded(
            Image.merge("RGBA", (*picture.split(), picture.convert("L"))), "PNG"
        ),
        "WebP": lambda: encoded(picture, "WEBP"),
    }[kind]()
    found = page.evaluate(
        f"""async (text) => {{
          {_BYTES}
          const {{ readPhoto }} = await import("./classifier.js");
          const {{ data, width, height }} = await readPhoto(new Blob([bytes(text)]));
          return [Array.from(data), height, width];
        }}""",
        as_text(content),
    )
    pixels: NDArray[np.uint8] = np.array(found[0], np.uint8).reshape(found[1], found[2], 3)
    expected = decode(content)
    assert pixels.shape == expected.shape
    # Chromium 156 decodes all of these to the bit; the inverse transform of another libjpeg may round.
    assert np.abs(pixels.astype(int) - expected).max() <= (0 if "PNG" in kind else 2)


@pytest.mark.test_all
def test_a_file_that_is_no_image_is_told(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    page.locator("input").set_input_files(tmp_path / "notes.txt")
    expect(page.locator("[role=status]")).to_contain_text("notes.txt cannot be classified")
    expect(page.locator("tbody")).to_be_empty()


@pytest.mark.test_all
def test_a_folder_that_is_missing_is_told(page: Page, site: str) -> None:
    other = page.context.new_page()
    other.goto(f"{site}/index.html?model=nowhere")
    told = re.compile(r"nowhere/(config|signature)\.json cannot be read: 404")  # whichever answers first
    expect(other.locator("[role=status]")).to_contain_text(told)
    other.close()


def test_what_is_installed_is_fixed_and_from_the_registry_of_the_reader() -> None:
    lock = json.loads((EXAMPLE / "package-lock.json").read_text())
    (wanted,) = json.loads((EXAMPLE / "package.json").read_text())["dependencies"].items()
    assert wanted == ("onnxruntime-web", lock["packages"]["node_modules/onnxruntime-web"]["version"])
    installed = [package for path, package in lock["packages"].items() if path]
    assert all(package["integrity"].startswith("sha512-") for package in installed)
    assert not any("resolved" in package for package in installed)
