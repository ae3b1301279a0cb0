"""Draw a network as a column of its layers, like figure 3 of He et al. 2015.

A box is a convolution, a pooling or the classifier; colours tell stages apart. A line around a unit is its
shortcut, dotted where the shape changes. A network whose plain twin is in the zoo stands beside it, and a
plain one beside its residual twin; beside those of 34 layers stands VGG-19, as in the paper. What puts out
maps of the same size is at the same height. In deep networks units of the same shape are drawn once, with a
bracket that says how often they follow each other.

Every mark has an id in the SVG: ``resnet34.layer2.0.conv1``, ``resnet34.layer2.0.shortcut-dotted``. The same
network gives the same bytes on every machine with the same matplotlib.

Example:
    >>> draw_architecture("resnet34", Path("resnet34.svg"))  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from deepresidual import zoo
from deepresidual.analysis.pictures import figure_bytes
from deepresidual.errors import ConfigurationError
from deepresidual.reporting.palette import GRAY, INK
from deepresidual.runtime.files import expanded, write_bytes
from deepresidual.spec import ResNetSpec, UnitShape, shortcut_form
from deepresidual.zoo.table import stages

MAX_LAYERS_DRAWN_ONE_BY_ONE = 40
"""Of networks with more weighted layers, units of the same shape are drawn once: a page holds some 40."""

_FORMATS = (".svg", ".png")

_Line: TypeAlias = Literal["solid", "dotted"]
_LINES: dict[_Line, Any] = {"solid": "solid", "dotted": (0, (1.2, 1.6))}

# Measures in points.
_BOX_WIDTH, _BOX_HEIGHT = 116.0, 15.5
_GAP_INSIDE = 7.5  # between the boxes of a unit
_GAP_BETWEEN = 17.0  # between units: room for the sum and for the branch of the next shortcut
_SUM_BELOW, _BRANCH_ABOVE = 6.0, 6.0  # of the box before, and of the box behind
_SUM_RADIUS = 3.4
_BULGE = 19.0  # how far a shortcut stands off its boxes
_CORNER = 7.0
_MARGIN = 16.0
_HEADER = 64.0
_LEGEND_LINE = 14.0
_SIZES_WIDTH = 50.0  # left of all columns: sides of the maps
_COLUMN_WIDTH = _BOX_WIDTH + 78.0  # with brackets on its left and shortcuts on its right

_TEXT = 7.5
_LABEL_CHARACTERS = 24  # as many fit into a box; longer labels, as of grouped convolutions, are set smaller
# Fill and edge; neighbours differ in lightness and hue, also for readers who do not see red and green apart.
_STAGE_COLOURS = (
    ("#e6defa", "#7a5fc0"),
    ("#d8efcf", "#4d9440"),
    ("#fde0d3", "#cf6a3a"),
    ("#d5e6fa", "#3775b8"),
    ("#fbeab8", "#a98310"),
    ("#cdeeea", "#24857d"),
    ("#fbdcea", "#b8487f"),
    ("#e3e6ea", "#596673"),
)
_NEUTRAL = ("#f4f5f6", "#7d8790")


@dataclass(frozen=True)
class _Box:
    name: str
    label: str
    colours: tuple[str, str]


@dataclass(frozen=True)
class _Block:
    """Boxes that follow each other closely: a unit, or one layer that is in none.

    Attributes:
        boxes: The layers, from the top.
        output_px: Side of the map behind them.
        name: Name of the unit.
        shortcut: Style of the line around them.
        repeats: Number of units of this shape in a row.
    """

    boxes: tuple[_Box, ...]
    output_px: int
    name: str = ""
    shortcut: _Line | None = None
    repeats: int = 1

    @property
    def height(self) -> float:
        return len(self.boxes) * (_BOX_HEIGHT + _GAP_INSIDE) - _GAP_INSIDE


@dataclass(frozen=True)
class _Column:
    """One network of the drawing, with the numbers in its header."""

    name: str
    num_layers: int
    num_parameters: int
    num_macs: int
    blocks: tuple[_Block, ...]


def draw_architecture(network: str | zoo.ZooEntry, path: Path, input_px: int | None = None) -> None:
    """Draw a network of the zoo, beside its plain or residual twin if there is one, into a file.

    Args:
        network: Name in the zoo, or a row of it.
        path: File to write, which ends with ``.svg`` or ``.png``.
        input_px: Side of the input image in pixels. Default: the usual one of the network.

    Raises:
        ConfigurationError: The file's ending is none of these, or there is no such network.
        RunError: The file cannot be written.
    """
    path = expanded(path)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(
            f"cannot draw into {str(path)!r}", expected=f"a file that ends with {' or '.join(_FORMATS)}"
        )
    entry = zoo.entry(network) if isinstance(network, str) else network
    write_bytes(path, _rendered(entry, path.suffix.lower().removeprefix("."), input_px))


def _rendered(entry: zoo.ZooEntry, file_format: str, input_px: int | None) -> bytes:
    px = entry.preprocess.crop_px if input_px is None else input_px
    entries = _with_twin(entry)
    columns = [
        _Column(
            each.name,
            each.spec.num_layers,
            each.spec.num_parameters,
            each.spec.num_macs(px),
            tuple(_blocks(each.spec, px)),
        )
        for each in entries
    ]
    if {column.name for column in columns} == {"plain34", "resnet34"} and px == _VGG19_PX:
        columns.insert(0, _vgg19())
    bands = _bands(columns)
    legend = _legend(entries[-1].spec, columns[-1].blocks)
    height = _HEADER + sum(bands.values()) + len(legend) * _LEGEND_LINE + 2 * _MARGIN
    width = _SIZES_WIDTH + len(columns) * _COLUMN_WIDTH + _MARGIN
    # Letters as outlines look the same on every machine; the font comes with matplotlib.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "residual", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        top = height - _MARGIN
        for number, column in enumerate(columns):
            middle = _SIZES_WIDTH + number * _COLUMN_WIDTH + _COLUMN_WIDTH / 2
            _draw_header(axes, column, px, middle, top)
            _draw_column(axes, column, bands, middle, top)
        _draw_sizes(axes, bands, top - _HEADER)
        for line, (style, text) in enumerate(legend):
            # Under the residual column, which is the last.
            _draw_legend(axes, style, text, middle, _MARGIN + (len(legend) - line - 0.5) * _LEGEND_LINE)
        title = ", ".join(column.name for column in columns)
        return figure_bytes(figure, file_format, title=title)


# -- what is drawn -----------------------------------------------------------------------------------


def _with_twin(entry: zoo.ZooEntry) -> list[zoo.ZooEntry]:
    """Return the plain and the residual network if both are in the zoo; else the one."""
    spec = entry.spec
    if spec.shortcut == "none":
        twin = entry.name.replace("plain", "resnet")
        return [entry, zoo.entry(twin)] if twin in zoo.list_models() else [entry]
    plain = dataclasses.replace(
        spec, shortcut="none", shortcut_scale=1.0, residual_scale=1.0, gate_bias=0.0, stochastic_depth=0.0
    )
    name = zoo.name_of(plain)
    return [entry] if name is None else [zoo.entry(name), entry]


def _blocks(spec: ResNetSpec, input_px: int) -> list[_Block]:
    """Return the column of a network, from the top."""
    rows = {row.name: row for row in stages(spec, input_px)}
    stem = rows["conv1"]
    kernel = 7 if spec.stem == "imagenet" else 3
    label = _label(kernel, spec.widths[0], stem.stride)
    blocks = [_Block((_Box("conv1", label, _NEUTRAL),), stem.output_px)]
    if "pool" in rows:
        blocks.append(_Block((_Box("pool", "max pool, /2", _NEUTRAL),), rows["pool"].output_px))
    px = blocks[-1].output_px
    one_by_one = spec.num_layers <= MAX_LAYERS_DRAWN_ONE_BY_ONE
    for shape, same in itertools.groupby(spec.units(), key=_shape):
        units = list(same)
        px = px if shape.stride == 1 else (px + 1) // 2
        colours = _STAGE_COLOURS[spec.stage_names.index(shape.stage)]
        for unit in units if one_by_one else units[:1]:
            boxes = tuple(
                _Box(
                    f"{unit.name}.conv{number}",
                    _label(conv.kernel_px, conv.out_channels, conv.stride, conv.groups, conv.dilation),
                    colours,
                )
                for number, conv in enumerate(spec.convolutions(unit), start=1)
            )
            repeats = 1 if one_by_one else len(units)
            blocks.append(_Block(boxes, px, unit.name, _shortcut_style(spec, unit), repeats))
    last = (
        _Box("avgpool", "average pool" if spec.has_usual_head else spec.pooling, _NEUTRAL),
        _Box("fc", f"fc, {spec.num_classes}", _NEUTRAL),
    )
    return [*blocks, _Block(last, 1)]


# Simonyan and Zisserman 2014 (arXiv 1409.1556), Table 1, column E: channels and number of the 3×3
# convolutions between two poolings, and the widths of the three linear layers. With all biases it has so many
# parameters, and so many multiply-adds at 224 px.
_VGG19_PX = 224
_VGG19_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_VGG19_LINEAR = (4096, 4096, 1000)
_VGG19_PARAMETERS, _VGG19_MACS = 143_667_240, 19_632_062_464


def _vgg19() -> _Column:
    """Return the column of VGG-19, which the 34-layer networks are held against."""
    px = _VGG19_PX
    blocks: list[_Block] = []
    # Maps of 56, 28 and 14 px have the colours of the residual stages of that size.
    colours = (_NEUTRAL, _NEUTRAL, *_STAGE_COLOURS[:3])
    for stage, ((width, count), colour) in enumerate(zip(_VGG19_STAGES, colours, strict=True), start=1):
        boxes = tuple(_Box(f"conv{stage}_{number + 1}", _label(3, width), colour) for number in range(count))
        blocks += [_Block(boxes, px), _Block((_Box(f"pool{stage}", "max pool, /2", _NEUTRAL),), px // 2)]
        px //= 2
    linear = tuple(
        _Box(f"fc{number}", f"fc, {width}", _NEUTRAL) for number, width in enumerate(_VGG19_LINEAR, start=6)
    )
    num_layers = sum(count for _, count in _VGG19_STAGES) + len(linear)
    return _Column("VGG-19", num_layers, _VGG19_PARAMETERS, _VGG19_MACS, (*blocks, _Block(linear, 1)))


def _shape(unit: UnitShape) -> UnitShape:
    """Return the unit without what tells it from others of the same stage that are drawn alike."""
    return dataclasses.replace(unit, name=unit.stage, drop_rate=0.0)


def _shortcut_style(spec: ResNetSpec, unit: UnitShape) -> _Line | None:
    if spec.shortcut == "none":
        return None
    return "solid" if unit.in_channels == unit.out_channels and unit.stride == 1 else "dotted"


def _label(kernel: int, channels: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> str:
    label = f"{kernel}×{kernel} conv, {channels}"
    if stride > 1:
        label += f", /{stride}"
    if groups > 1:
        label += f", {groups} groups"
    return label if dilation == 1 else f"{label}, dil. {dilation}"


_FORM_WORDS = {
    "identity": "identity",
    "pad": "identity with zeros",
    "pad-both-sides": "identity with zeros",
    "projection": "1×1 projection",
}
_KIND_WORDS = {
    "scaled": "scaled ",
    "exclusive-gating": "gated ",
    "shortcut-only-gating": "gated ",
    "dropout": "dropout of ",
}


def _legend(spec: ResNetSpec, blocks: tuple[_Block, ...]) -> list[tuple[_Line, str]]:
    """Return what the two kinds of line mean in this network; nothing for a plain one."""
    words: dict[_Line, dict[str, None]] = {"solid": {}, "dotted": {}}
    for unit in spec.units():
        style = _shortcut_style(spec, unit)
        if style is not None:
            form = shortcut_form(spec.shortcut, unit.in_channels, unit.out_channels, unit.stride)
            words[style][_KIND_WORDS.get(spec.shortcut, "") + _FORM_WORDS[form]] = None
    drawn = {block.shortcut for block in blocks}
    return [(style, " or ".join(texts)) for style, texts in words.items() if style in drawn]


# -- how it is drawn ---------------------------------------------------------------------------------


def _bands(columns: list[_Column]) -> dict[int, float]:
    """Return the sides of the maps, from the top → height that the tallest column needs for each."""
    bands: dict[int, float] = {}
    for column in columns:
        heights: dict[int, float] = {}
        for block in column.blocks:
            heights[block.output_px] = heights.get(block.output_px, 0.0) + block.height + _GAP_BETWEEN
        bands |= {px: max(height, bands.get(px, 0.0)) for px, height in heights.items()}
    return dict(sorted(bands.items(), reverse=True))


def _tops(blocks: tuple[_Block, ...], bands: dict[int, float], top: float) -> Iterator[tuple[_Block, float]]:
    """Yield every block with the upper edge of its first box; ``top`` is that of the first band."""
    starts, start = {}, top
    for px, height in bands.items():
        starts[px] = start
        start -= height
    for block in blocks:
        yield block, starts[block.output_px]
        starts[block.output_px] -= block.height + _GAP_BETWEEN


def _draw_header(axes: Axes, column: _Column, input_px: int, middle: float, top: float) -> None:
    macs = column.num_macs
    text = f"{macs / 1e9:,.2f} G MACs" if macs >= 1e9 else f"{macs / 1e6:,.1f} M MACs"
    facts = f"{column.num_parameters / 1e6:,.2f} M parameters, {text}"
    _text(axes, middle, top - 6, column.name, size=11, weight="bold")
    _text(axes, middle, top - 20, f"{column.num_layers:,} layers", size=_TEXT + 0.5)
    _text(axes, middle, top - 32, facts, size=_TEXT - 0.5, colour=GRAY)
    _text(axes, middle, top - 48, f"image, {input_px} × {input_px}")


def _draw_column(axes: Axes, column: _Column, bands: dict[int, float], middle: float, top: float) -> None:
    """Draw one network under its header, whose upper edge is at ``top``."""
    before = top - 53.5  # under the words of the header
    for block, block_top in _tops(column.blocks, bands, top - _HEADER):
        _draw_arrow(axes, middle, before, block_top)
        before = bottom = block_top - block.height
        for position, box in enumerate(block.boxes):
            box_top = block_top - position * (_BOX_HEIGHT + _GAP_INSIDE)
            _draw_box(axes, f"{column.name}.{box.name}", box, middle, box_top)
            if position > 0:
                _draw_arrow(axes, middle, box_top + _GAP_INSIDE, box_top)
        if block.shortcut is not None:
            branch, total = block_top + _BRANCH_ABOVE, bottom - _SUM_BELOW
            mark = f"{column.name}.{block.name}.shortcut-{block.shortcut}"
            _draw_shortcut(axes, mark, block.shortcut, middle, branch, total)
        if block.repeats > 1:
            _draw_bracket(axes, block.repeats, middle - _BOX_WIDTH / 2 - 6, block_top, bottom)


def _draw_box(axes: Axes, mark: str, box: _Box, middle: float, top: float) -> None:
    fill, edge = box.colours
    axes.add_patch(
        FancyBboxPatch(
            (middle - _BOX_WIDTH / 2, top - _BOX_HEIGHT),
            _BOX_WIDTH,
            _BOX_HEIGHT,
            boxstyle="round,pad=0,rounding_size=2.5",
            facecolor=fill,
            edgecolor=edge,
            linewidth=0.8,
            zorder=3,
            gid=mark,
        )
    )
    size = _TEXT * min(1.0, _LABEL_CHARACTERS / len(box.label))
    _text(axes, middle, top - _BOX_HEIGHT / 2 - 0.4, box.label, size=size)


def _draw_arrow(axes: Axes, x: float, start: float, end: float) -> None:
    axes.plot((x, x), (start, end + 2), color=INK, linewidth=0.8, solid_capstyle="butt", zorder=1)
    axes.fill((x - 2, x + 2, x), (end + 3.6, end + 3.6, end), color=INK, linewidth=0, zorder=2)


def _draw_shortcut(axes: Axes, mark: str, style: _Line, x: float, branch: float, total: float) -> None:
    """Draw the line from the branch around the boxes to the sum, and the sum."""
    right = x + _BOX_WIDTH / 2 + _BULGE
    points = [
        (x, branch),
        (right - _CORNER, branch),
        (right, branch),
        (right, branch - _CORNER),
        (right, total + _CORNER),
        (right, total),
        (right - _CORNER, total),
        (x + _SUM_RADIUS + 3.2, total),
    ]
    curve = [Outline.CURVE3, Outline.CURVE3]
    codes = [Outline.MOVETO, Outline.LINETO, *curve, Outline.LINETO, *curve, Outline.LINETO]
    axes.add_patch(
        PathPatch(
            Outline(points, codes),
            fill=False,
            edgecolor=INK,
            linewidth=1.0,
            linestyle=_LINES[style],
            zorder=1,
            gid=mark,
        )
    )
    tip = x + _SUM_RADIUS
    axes.fill((tip + 3.6, tip + 3.6, tip), (total + 2, total - 2, total), color=INK, linewidth=0, zorder=2)
    axes.add_patch(Circle((x, total), _SUM_RADIUS, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=4))
    arm = _SUM_RADIUS - 1.2
    axes.plot((x - arm, x + arm), (total, total), color=INK, linewidth=0.8, zorder=5)
    axes.plot((x, x), (total - arm, total + arm), color=INK, linewidth=0.8, zorder=5)


def _draw_bracket(axes: Axes, repeats: int, x: float, top: float, bottom: float) -> None:
    axes.plot((x, x - 4, x - 4, x), (top, top, bottom, bottom), color=GRAY, linewidth=0.9, zorder=1)
    _text(axes, x - 8, (top + bottom) / 2, f"{repeats} ×", size=_TEXT + 1, weight="bold", ha="right")


def _draw_sizes(axes: Axes, bands: dict[int, float], top: float) -> None:
    """Write the side of the map left of the first boxes that put it out."""
    for px, height in bands.items():
        if px > 1:
            text = f"{px} × {px}"
            _text(axes, _MARGIN / 2, top - _BOX_HEIGHT / 2, text, colour=GRAY, ha="left")
        top -= height


def _draw_legend(axes: Axes, style: _Line, text: str, middle: float, y: float) -> None:
    left = middle - _BOX_WIDTH / 2
    axes.plot((left, left + 22), (y, y), color=INK, linewidth=1.0, linestyle=_LINES[style])
    _text(axes, left + 28, y, text, colour=GRAY, ha="left")


def _text(
    axes: Axes, x: float, y: float, text: str, *, size: float = _TEXT, colour: str = INK, **look: str
) -> None:
    """Write a text whose middle is at ``y``; ``look`` are further properties of matplotlib's."""
    usual: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 6}
    axes.text(x, y, text, fontsize=size, color=colour, **usual | look)
