"""Figures of networks: every layer and shortcut of the spec is there, once, and the bytes come again."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from deepresidual import zoo
from deepresidual.analysis.architecture_figure import MAX_LAYERS_DRAWN_ONE_BY_ONE, _vgg19, draw_architecture
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, RunError, UnknownNameError
from deepresidual.spec import shortcut_form
from tests.suites import short

# Too small to have a twin in the zoo: drawn in a tenth of the time.
SMALL = dataclasses.replace(
    zoo.entry("resnet20"),
    name="small",
    spec=dataclasses.replace(zoo.entry("resnet20").spec, depths=(1, 1, 1)),
)
ONE_BY_ONE = [entry.name for entry in zoo.entries() if entry.spec.num_layers <= MAX_LAYERS_DRAWN_ONE_BY_ONE]


def marks(path: Path) -> list[str]:
    """Return the ids of the groups in an SVG that are marks of a network."""
    root = ET.parse(path).getroot()  # noqa: S314  # drawn by the test itself
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [
        group.attrib["id"] for group in root.iter("{http://www.w3.org/2000/svg}g") if "id" in group.attrib
    ]


def of_network(found: list[str], network: str) -> list[str]:
    return [mark.removeprefix(f"{network}.") for mark in found if mark.startswith(f"{network}.")]


@pytest.fixture(scope="module")
def of_34_layers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Draw the networks of 34 layers and return the marks."""
    path = tmp_path_factory.mktemp("of-34-layers") / "figure.svg"
    draw_architecture("plain34", path)
    return marks(path)


BOTTLENECK = dataclasses.replace(SMALL.spec, unit="bottleneck", widths=(4, 8, 16), shortcut="C")


@pytest.mark.parametrize("name", [*short(ONE_BY_ONE, "plain18"), "small", "small-bottleneck"])
def test_every_layer_and_shortcut_is_drawn(name: str, tmp_path: Path) -> None:
    entry = zoo.entry(name) if "small" not in name else dataclasses.replace(SMALL, name=name)
    if name == "small-bottleneck":
        entry = dataclasses.replace(entry, spec=BOTTLENECK)
    draw_architecture(entry, tmp_path / "figure.svg")
    drawn = of_network(marks(tmp_path / "figure.svg"), name)
    spec = entry.spec
    convolutions = ["conv1"] + [
        f"{unit.name}.conv{number}"
        for unit in spec.units()
        for number in range(1, len(spec.convolutions(unit)) + 1)
    ]
    assert [mark for mark in drawn if "conv" in mark] == convolutions
    units = [] if spec.shortcut == "none" else list(spec.units())
    dotted = [unit.name for unit in units if unit.in_channels != unit.out_channels or unit.stride > 1]
    shortcuts = {mark for mark in drawn if "shortcut" in mark}
    assert shortcuts == {
        f"{unit.name}.shortcut-{'dotted' if unit.name in dotted else 'solid'}" for unit in units
    }
    if spec.shortcut == "A":
        assert dotted == [
            unit.name
            for unit in units
            if shortcut_form("A", unit.in_channels, unit.out_channels, unit.stride) == "pad"
        ]
    assert {"avgpool", "fc"} <= set(drawn)


TWINS = {
    "plain18": {"plain18", "resnet18"},
    "resnet34": {"plain34", "resnet34"},
    "resnet20": {"plain20", "resnet20"},
    "resnet110.exclusive-gating": {"plain110", "resnet110"},
    "resnet50": {"resnet50"},
}


@pytest.mark.parametrize("name", short(TWINS, "resnet110.exclusive-gating", "resnet50"))
def test_twins_stand_side_by_side(name: str, tmp_path: Path) -> None:
    draw_architecture(zoo.entry(name), tmp_path / "figure.svg")
    drawn = marks(tmp_path / "figure.svg")
    assert {mark.split(".")[0] for mark in drawn if mark.endswith(".conv1")} == TWINS[name]


def test_vgg19_stands_beside_the_networks_of_34_layers(of_34_layers: list[str]) -> None:
    drawn = of_network(of_34_layers, "VGG-19")
    # Simonyan and Zisserman 2014, Table 1, column E.
    counts = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4}
    convolutions = [f"conv{stage}_{number + 1}" for stage, count in counts.items() for number in range(count)]
    assert [mark for mark in drawn if "conv" in mark] == convolutions
    assert [mark for mark in drawn if "conv" not in mark] == [
        *(f"pool{stage}" for stage in counts),
        "fc6",
        "fc7",
        "fc8",
    ]


@pytest.mark.test_all
def test_vgg19_stands_there_at_its_own_size_alone(tmp_path: Path) -> None:
    # At another size its linear layers would be others than the published ones.
    draw_architecture("plain34", tmp_path / "320.svg", 320)
    assert not of_network(marks(tmp_path / "320.svg"), "VGG-19")


def test_vgg19_is_the_published_one() -> None:
    column = _vgg19()
    assert column.num_layers == 19
    # torchvision's vgg19 has so many parameters; He et al. 2015, section 3.3: 19.6 billion multiply-adds.
    assert column.num_parameters == 143_667_240
    assert round(column.num_macs / 1e9, 1) == 19.6


@pytest.mark.parametrize(("name", "boxes"), [("resnet50", 8 * 3), ("resnet1001.preact", 6 * 3)])
def test_deep_networks_show_units_of_the_same_shape_once_and_quickly(
    name: str, boxes: int, tmp_path: Path
) -> None:
    begin = time.monotonic()
    draw_architecture(name, tmp_path / "figure.svg")
    assert time.monotonic() - begin < 5
    drawn = of_network(marks(tmp_path / "figure.svg"), name)
    assert len([mark for mark in drawn if ".conv" in mark]) == boxes
    assert len([mark for mark in drawn if ".shortcut-" in mark]) == boxes // 3


@pytest.mark.parametrize("network", short(["small", "resnet20"], "small"))
def test_the_same_network_gives_the_same_bytes(network: str, tmp_path: Path) -> None:
    code = (
        "import dataclasses, sys; from pathlib import Path; from deepresidual import zoo; "
        "from deepresidual.analysis.architecture_figure import draw_architecture; "
        "entry = zoo.entry('resnet20'); "
        "small = dataclasses.replace(entry.spec, depths=(1, 1, 1)); "
        f"entry = entry if {network != 'small'} else dataclasses.replace(entry, name='small', spec=small); "
        "[draw_architecture(entry, Path(name)) for name in sys.argv[1:]]"
    )
    suffixes = (".svg", ".png")
    there = [tmp_path / f"there{suffix}" for suffix in suffixes]
    subprocess.run([sys.executable, "-c", code, *map(str, there)], check=True)
    for suffix, other in zip(suffixes, there, strict=True):
        draw_architecture(SMALL if network == "small" else network, tmp_path / f"here{suffix}")
        assert (tmp_path / f"here{suffix}").read_bytes() == other.read_bytes(), suffix


def test_a_png_is_a_picture(tmp_path: Path) -> None:
    draw_architecture(SMALL, tmp_path / "figure.PNG")
    with Image.open(tmp_path / "figure.PNG") as picture:
        assert picture.format == "PNG"
        assert picture.height > picture.width > 400


def test_another_size_of_image_is_said_in_the_figure(tmp_path: Path) -> None:
    draw_architecture(SMALL, tmp_path / "32.svg")
    draw_architecture(SMALL, tmp_path / "64.svg", 64)
    assert (tmp_path / "32.svg").read_bytes() != (tmp_path / "64.svg").read_bytes()


@pytest.mark.parametrize("name", ["figure.pdf", "figure"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"cannot draw into '.*{name}'; expected a file that ends with .svg or .png"
    ):
        draw_architecture("resnet18", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_unknown_network_and_a_missing_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'resnet5O'"):
        draw_architecture("resnet5O", tmp_path / "figure.svg")
    with pytest.raises(RunError, match=r"cannot write .* \(No such file or directory\)"):
        draw_architecture(SMALL, tmp_path / "missing" / "figure.svg")


def test_the_command_draws_one_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnet50", "--figure", str(tmp_path / "figure.svg")]) == 0
    assert "resnet50.layer1.0.conv1" in marks(tmp_path / "figure.svg")
    capsys.readouterr()
    assert main(["models", "resnet2*", "--figure", str(tmp_path / "figure.svg")]) == 2
    expected = r"error: \d+ networks match; expected one for a figure; give its full name\n"
    assert re.fullmatch(expected, capsys.readouterr().err)


def test_the_documentation_shows_what_the_command_draws(of_34_layers: list[str]) -> None:
    shown = Path(__file__).parents[2] / "docs" / "images" / "plain34-resnet34.svg"
    assert shown.stat().st_size < 300_000
    assert sorted(of_34_layers) == sorted(marks(shown))
