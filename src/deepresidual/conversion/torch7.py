"""Networks of fb.resnet.torch, as Torch7 files: trees of nn modules instead of names.

The tree is walked once, by the models of its ``models/resnet.lua`` and ``models/preresnet.lua``: what stands
where says which network it is, and every layer is then held against that network's own shapes. ``nn`` and
``cudnn`` modules are alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from deepresidual.conversion.architecture import state_names
from deepresidual.conversion.ecosystem import Ecosystem, ForeignCheckpoint, Recognition
from deepresidual.conversion.translation import Rule, Translation, num_batches_tracked
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.preprocess import Preprocess
from deepresidual.spec import Convolution, ResNetSpec, UnitShape, shortcut_form
from deepresidual.spec.kinds import Arrangement, ConvBias, FirstActivation, Shortcut
from deepresidual.zoo import cifar
from deepresidual.zoo.labels import CIFAR10_CLASS_NAMES, imagenet_names_for

# fb.resnet.torch's datasets/imagenet.lua; image.scale is bicubic where nothing else is said.
_IMAGENET = Preprocess(
    crop_px=224,
    resize_px=256,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
)
_CONV, _BN, _RELU = "SpatialConvolution", "SpatialBatchNormalization", "ReLU"
_MAX_POOL, _AVERAGE_POOL = "SpatialMaxPooling", "SpatialAveragePooling"
_ZEROS = "a bias of zeros"


class Torch7(Ecosystem):
    """fb.resnet.torch and others that build the same trees."""

    name = "torch7"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Recognize a Torch7 file with modules; any that is not such a network is refused by its module."""
        if checkpoint.format != "torch7" or not checkpoint.metadata.get("modules"):
            return None
        spec = _Walk(checkpoint).spec
        labels: tuple[str, ...] | None = None
        if spec.stem == "imagenet" and (names := imagenet_names_for(spec.num_classes)):
            labels = names
        elif spec.stem == "cifar" and spec.num_classes == len(CIFAR10_CLASS_NAMES):
            labels = CIFAR10_CLASS_NAMES
        return Recognition(
            spec,
            "a tree of nn modules as fb.resnet.torch builds it",
            _preprocess(spec),
            labels,
            ("images are prepared as fb.resnet.torch's code does, which the file does not say",),
        )

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return the paths of the modules in the file's own tree; without a file there is none."""
        if checkpoint is None:
            raise ConfigurationError(
                "the names in a Torch7 file depend on its tree of modules",
                expected="a file to read them from",
            )
        walk = _Walk(checkpoint)
        names = state_names(spec)
        modules = {name.rpartition(".")[0] for name in names}
        if modules != set(walk.names):
            odd = sorted(modules ^ set(walk.names))
            raise ConfigurationError(f"{checkpoint.path} is another network than the spec (at {odd[0]})")
        rules, counters = [], []
        for name in names:
            module, _, part = name.rpartition(".")
            if part == "num_batches_tracked":
                counters.append(name)
                continue
            source = f"{walk.names[module]}.{part}"
            # Some modules keep their kernels as a matrix, or with an axis for the groups.
            is_kernel = part == "weight" and walk.kind(walk.names[module]) == _CONV
            rules.append(Rule(name, source, "flat" if is_kernel else "same"))
        return Translation(tuple(rules), dropped=walk.dropped, filled=num_batches_tracked(counters))


def _preprocess(spec: ResNetSpec) -> Preprocess:
    return _IMAGENET if spec.stem == "imagenet" else cifar.PREPROCESS


@dataclass
class _Branch:
    """A shortcut: its kind, where it stands, and the layers of a projection or the pooling of a pad."""

    kind: Literal["identity", "projection", "pad"]
    path: str
    layer: str = ""
    bn: str | None = None


@dataclass
class _Unit:
    """A residual unit: paths of its layers, in the order in which they run."""

    path: str
    arrangement: Arrangement
    convs: list[str]
    norms: list[str | None]
    shortcut: _Branch
    is_activated_before_split: bool


@dataclass
class _Sequence:
    """The children of a Sequential, taken one after another."""

    walk: _Walk
    path: str
    left: list[str] = field(init=False)

    def __post_init__(self) -> None:
        if self.walk.kind(self.path) != "Sequential":
            self.walk.refuse(self.path, "stands where a Sequential is expected")
        self.left = self.walk.children(self.path)

    def at(self, kind: str) -> bool:
        """Return whether the next module is of this kind."""
        return bool(self.left) and self.walk.kind(self.left[0]) == kind

    def take(self, kind: str) -> str:
        """Return the path of the next module, which has to be of this kind."""
        if not self.left:
            self.walk.refuse(self.path, f"ends where a {kind} is expected")
        if not self.at(kind):
            self.walk.refuse(self.left[0], f"stands where a {kind} is expected")
        return self.left.pop(0)

    def take_activation(self) -> str | None:
        """Return the path of a BN that comes next, with a ReLU after it; ``None`` where none comes."""
        if not self.at(_BN):
            return None
        bn = self.take(_BN)
        self.take(_RELU)
        return bn

    def end(self) -> None:
        """Refuse what is left."""
        if self.left:
            self.walk.refuse(self.left[0], "stands where nothing more is expected")


class _Walk:
    """One walk through the tree of a file.

    Attributes:
        spec: The network.
        names: Our names of modules → paths there.
        dropped: Tensors that are not needed, with the reason.
    """

    def __init__(self, checkpoint: ForeignCheckpoint) -> None:
        self._file = checkpoint.path
        self._tensors = checkpoint.tensors
        self._modules: dict[str, dict[str, Any]] = checkpoint.metadata.get("modules", {})
        self._children: dict[str, list[str]] = {}
        for path in self._modules:
            if path:
                self._children.setdefault(path.rpartition(".")[0], []).append(path)
        self.names: dict[str, str] = {}
        self.dropped: dict[str, str] = {}

        root = _Sequence(self, "")
        self._stem = root.take(_CONV)
        self._stem_bn = root.take_activation()
        self._max_pool = root.take(_MAX_POOL) if root.at(_MAX_POOL) else None
        self._stages: list[list[_Unit]] = []
        while root.at("Sequential"):
            stage = root.take("Sequential")
            self._stages.append([self._unit(path) for path in self.children(stage)])
            if not self._stages[-1]:
                self.refuse(stage, "holds no units")
        if not self._stages:
            self.refuse("", "holds no stages")
        self._last_bn = root.take_activation()
        self._average_pool = root.take(_AVERAGE_POOL)
        root.take("View")
        self._linear = root.take("Linear")
        root.end()

        self.spec = self._derive()
        self._check()

    # -- the tree ------------------------------------------------------------------------------------

    def kind(self, path: str) -> str:
        """Return a module's type without its package."""
        kind = str(self._modules[path]["type"])
        for package in ("nn.", "cudnn."):
            if kind.startswith(package):
                kind = kind.removeprefix(package)
                break
        return _CONV if kind == "SpatialConvolutionMM" else kind

    def children(self, path: str) -> list[str]:
        """Return the paths of a module's children, in order."""
        return list(self._children.get(path, ()))

    def refuse(self, path: str, reason: str) -> NoReturn:
        """Refuse the file for one of its modules."""
        kind = str(self._modules[path]["type"])[:100]
        raise ModelFileError(
            f"{self._file}: the module {path or 'at the root'} ({kind}) {reason}",
            expected="a network as fb.resnet.torch builds it",
        )

    def _number(self, path: str, name: str, default: int | None = None) -> int:
        value = self._modules[path].get(name, default)
        if type(value) is not int:
            self.refuse(path, f"has no whole number as {name}")
        return value

    def _unit(self, path: str) -> _Unit:
        unit = _Sequence(self, path)
        shared = unit.take_activation()
        table = unit.take("ConcatTable")
        branches = self.children(table)
        if len(branches) != 2:
            self.refuse(table, f"has {len(branches)} branches instead of 2")
        unit.take("CAddTable")
        main = _Sequence(self, branches[0])
        own = main.take_activation()
        convs, norms = [main.take(_CONV)], []
        while main.at(_BN):
            norms.append(main.take(_BN))
            if not main.left:
                break
            main.take(_RELU)
            convs.append(main.take(_CONV))
        main.end()
        has_end_bn = len(norms) == len(convs)
        after = unit.take(_BN) if unit.at(_BN) else None
        has_end_relu = after is not None or unit.at(_RELU)
        if has_end_relu:
            unit.take(_RELU)
        unit.end()
        if shared and own:
            self.refuse(path, "activates twice")
        shortcut = self._shortcut(branches[1])
        first = shared or own
        if not first and has_end_relu and has_end_bn and not after:
            return _Unit(path, "original", convs, [*norms], shortcut, is_activated_before_split=False)
        if not first and after and not has_end_bn:
            return _Unit(
                path, "bn-after-addition", convs, [*norms, after], shortcut, is_activated_before_split=False
            )
        if has_end_relu or has_end_bn:
            self.refuse(path, "has its BN and ReLU where no arrangement has them")
        return _Unit(
            path,
            "full-preactivation",
            convs,
            [first, *norms],
            shortcut,
            is_activated_before_split=shared is not None,
        )

    def _shortcut(self, path: str) -> _Branch:
        match self.kind(path):
            case "Identity":
                return _Branch("identity", path)
            case "SpatialConvolution":
                return _Branch("projection", path, path)
        branch = _Sequence(self, path)
        if not branch.at(_AVERAGE_POOL):
            conv = branch.take(_CONV)
            bn = branch.take(_BN) if branch.at(_BN) else None
            branch.end()
            return _Branch("projection", path, conv, bn)
        pool, concat = branch.take(_AVERAGE_POOL), branch.take("Concat")
        branch.end()
        halves = self.children(concat)
        if [self.kind(half) for half in halves] != ["Identity", "MulConstant"]:
            self.refuse(concat, "is not an Identity beside a MulConstant")
        if self._number(halves[1], "constant_scalar") != 0:
            self.refuse(halves[1], "multiplies by something else than 0")
        if self._number(concat, "dimension") != 2:
            self.refuse(concat, "does not join channels")
        return _Branch("pad", path, pool)

    # -- the spec ------------------------------------------------------------------------------------

    def _units(self) -> list[_Unit]:
        return [unit for stage in self._stages for unit in stage]

    def _derive(self) -> ResNetSpec:
        """Return the spec that the tree suggests; :meth:`_check` checks the tree against it."""
        units = self._units()
        first = units[0]
        is_bottleneck = len(first.convs) == 3
        for unit in units:
            if unit.arrangement != first.arrangement:
                self.refuse(unit.path, f"is {unit.arrangement} after units that are {first.arrangement}")
            if len(unit.convs) != len(first.convs) or len(unit.convs) not in (2, 3):
                self.refuse(unit.path, f"has {len(unit.convs)} convolutions on its main path")
        first_activation: FirstActivation = "unit"
        if first.arrangement == "full-preactivation":
            if self._stem_bn:
                first_activation = "stem"
            elif not first.is_activated_before_split:
                first_activation = "branch"
        norms = self._norms()
        eps, momentum = (self._real(norms[0], name) for name in ("eps", "momentum"))
        for norm in norms:
            if (self._real(norm, "eps"), self._real(norm, "momentum")) != (eps, momentum):
                self.refuse(norm, f"has another eps or momentum than {norms[0]}")
        inner = self._number(first.convs[0], "nOutputPlane")
        expansion = 4 if is_bottleneck else 1
        widths = tuple(
            self._number(stage[0].convs[-1], "nOutputPlane") // expansion for stage in self._stages
        )
        weight = self._tensors.get(f"{self._linear}.weight")
        if weight is None or weight.ndim != 2:
            self.refuse(self._linear, "has no matrix as weight")
        strides_1x1 = is_bottleneck and any(self._number(unit.convs[0], "dW") > 1 for unit in units)
        try:
            return ResNetSpec(
                unit="bottleneck" if is_bottleneck else "basic",
                depths=tuple(len(stage) for stage in self._stages),
                widths=widths,
                stem="imagenet" if self._number(self._stem, "kW") == 7 else "cifar",
                shortcut=self._shortcut_kind(),
                stride_on="1x1" if strides_1x1 else "3x3",
                arrangement=first.arrangement,
                first_activation=first_activation,
                groups=self._number(first.convs[1], "groups", 1) if is_bottleneck else 1,
                inner_multiplier=inner // widths[0] if is_bottleneck else 1,
                conv_bias=self._conv_bias(),
                bn_eps=eps,
                bn_momentum=momentum,
                num_classes=weight.shape[0],
            )
        except (ConfigurationError, ZeroDivisionError) as error:
            raise ModelFileError(f"{self._file} is no network that Residual has ({error})") from error

    def _shortcut_kind(self) -> Shortcut:
        """Tell C from B by projections that keep the shape, and A by its padding."""
        kinds = {unit.shortcut.kind for unit in self._units()}
        for unit in self._units():
            channels = (
                self._number(unit.convs[0], "nInputPlane"),
                self._number(unit.convs[-1], "nOutputPlane"),
            )
            strides = {self._number(conv, "dW") for conv in unit.convs}
            if unit.shortcut.kind == "projection" and channels[0] == channels[1] and strides == {1}:
                return "C"
        return "A" if "pad" in kinds and "projection" not in kinds else "B"

    def _norms(self) -> list[str]:
        norms = [norm for norm in (self._stem_bn, self._last_bn) if norm]
        for unit in self._units():
            norms += [norm for norm in (*unit.norms, unit.shortcut.bn) if norm]
        return norms

    def _real(self, path: str, name: str) -> float:
        value = self._modules[path].get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(path, f"has no number as {name}")
        return float(value)

    def _conv_bias(self) -> ConvBias:
        """Return ``all`` where any bias counts; biases of zeros are dropped where none does."""
        convs = [self._stem]
        for unit in self._units():
            convs += unit.convs
            if unit.shortcut.kind == "projection":
                convs.append(unit.shortcut.layer)
        biases = {conv: self._tensors.get(f"{conv}.bias") for conv in convs}
        nonzero = [conv for conv, bias in biases.items() if bias is not None and bias.any()]
        if not nonzero:
            self.dropped = {f"{conv}.bias": _ZEROS for conv, bias in biases.items() if bias is not None}
            return "none"
        for conv, bias in biases.items():
            if bias is None or bias.numel() == 0:
                self.refuse(conv, f"has no bias, and the module {nonzero[0]} has one that is not zero")
        return "all"

    # -- every layer against the spec ------------------------------------------------------------------

    def _check(self) -> None:
        spec = self.spec
        kernel_px, stride = (7, 2) if spec.stem == "imagenet" else (3, 1)
        self._check_conv("conv1", self._stem, Convolution(3, spec.widths[0], kernel_px, stride))
        self._check_norm("bn1", self._stem_bn, self._stem, wanted=spec.has_stem_bn)
        if (self._max_pool is not None) != (spec.stem == "imagenet"):
            self.refuse(self._max_pool or self._stem, f"does not belong to a stem of kind {spec.stem}")
        if self._max_pool is not None:
            self._check_window(self._max_pool, kernel_px=3, stride=2, padding=1)
            if self._modules[self._max_pool].get("ceil_mode"):
                self.refuse(self._max_pool, "rounds up")
        for unit, shape in zip(self._units(), spec.units(), strict=True):
            self._check_unit(unit, shape)
        self._check_norm("bn", self._last_bn, self._average_pool, wanted=spec.is_preactivated)
        side = spec.pooled_px(_preprocess(spec).crop_px // stride) // 2 ** (len(spec.depths) - 1)
        if {self._number(self._average_pool, name) for name in ("kW", "kH")} != {side}:
            self.refuse(self._average_pool, f"does not pool the whole map of {side}×{side} pixels")
        self.names["fc"] = self._linear

    def _check_unit(self, unit: _Unit, shape: UnitShape) -> None:
        spec, name = self.spec, shape.name
        for number, (conv, wanted) in enumerate(zip(unit.convs, spec.convolutions(shape), strict=True), 1):
            self._check_conv(f"{name}.conv{number}", conv, wanted)
        for number, norm in enumerate(unit.norms, 1):
            is_wanted = number > 1 or not spec.is_preactivated or spec.begins_with_activation(shape)
            self._check_norm(f"{name}.bn{number}", norm, unit.path, wanted=is_wanted)
        form = shortcut_form(spec.shortcut, shape.in_channels, shape.out_channels, shape.stride)
        branch = unit.shortcut
        if branch.kind != form:
            self.refuse(branch.path, f"is a shortcut of kind {branch.kind} instead of {form}")
        is_shared = form == "projection" or (shape.is_first and spec.first_activation != "branch")
        if unit.norms[0] and spec.is_preactivated and unit.is_activated_before_split != is_shared:
            where = "before" if is_shared else "after"
            self.refuse(unit.path, f"does not have its first BN and ReLU {where} the paths split")
        if form == "projection":
            projection = Convolution(shape.in_channels, shape.out_channels, 1, shape.stride)
            self._check_conv(f"{name}.downsample.0", branch.layer, projection)
            is_normalized = not spec.is_preactivated
            self._check_norm(f"{name}.downsample.1", branch.bn, branch.path, wanted=is_normalized)
        elif form == "pad":
            self._check_window(branch.layer, kernel_px=1, stride=shape.stride, padding=0)
            if shape.out_channels != 2 * shape.in_channels:
                self.refuse(
                    branch.path, f"doubles {shape.in_channels} channels where F puts out {shape.out_channels}"
                )

    def _check_conv(self, name: str, path: str, wanted: Convolution) -> None:
        self._check_window(path, wanted.kernel_px, wanted.stride, wanted.kernel_px // 2)
        for attribute, number, default in (
            ("nInputPlane", wanted.in_channels, None),
            ("nOutputPlane", wanted.out_channels, None),
            ("groups", wanted.groups, 1),
        ):
            found = self._number(path, attribute, default)
            if found != number:
                self.refuse(path, f"has {attribute} {found} instead of {number}")
        self.names[name] = path

    def _check_window(self, path: str, kernel_px: int, stride: int, padding: int) -> None:
        for prefix, number, default in (("k", kernel_px, None), ("d", stride, None), ("pad", padding, 0)):
            for axis in "WH":
                found = self._number(path, prefix + axis, default)
                if found != number:
                    self.refuse(path, f"has {prefix}{axis} {found} instead of {number}")

    def _check_norm(self, name: str, path: str | None, beside: str, *, wanted: bool) -> None:
        """Name a BN; ``beside`` is the module that is named where one is missing."""
        if path is None:
            if wanted:
                self.refuse(beside, f"has no BN beside it as {name}")
            return
        if not wanted:
            self.refuse(path, "stands where no BN is expected")
        if f"{path}.running_std" in self._tensors:
            self.refuse(path, "keeps running_std of an early version instead of running_var")
        self.names[name] = path
