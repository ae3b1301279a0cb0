"""The model folder: there and back bit for bit, open to timm, closed to damage."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from deepresidual import zoo
from deepresidual.errors import ConfigurationError, ModelFileError, RunError
from deepresidual.models import TorchClassifier, create, load, save
from deepresidual.preprocess import Preprocess
from tests.conftest import SMALL_INPUT, TINY, examples
from tests.suites import short


@pytest.fixture
def folder(tmp_path: Path, tiny_model: TorchClassifier) -> Path:
    tiny_model.metrics = {"test": {"top1": 0.5, "top5": 1.0, "loss": 0.7, "count": 12}}
    tiny_model.provenance = {"data": "colors"}
    save(tiny_model, tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")


def test_a_model_comes_back_bit_for_bit(folder: Path, tiny_model: TorchClassifier) -> None:
    loaded = load(folder)
    for name, tensor in tiny_model.network.state_dict().items():
        assert torch.equal(tensor, loaded.network.state_dict()[name]), name
    assert (loaded.spec, loaded.label_names, loaded.preprocess) == (
        tiny_model.spec,
        tiny_model.label_names,
        tiny_model.preprocess,
    )
    assert (loaded.metrics, loaded.provenance) == (tiny_model.metrics, tiny_model.provenance)
    assert not loaded.network.training


def test_saving_twice_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save(load(folder), tmp_path / "again")
    for file in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


def test_a_run_folder_stands_for_its_model(folder: Path) -> None:
    assert load(folder.parent).label_names == load(folder).label_names


def test_a_folder_keeps_the_stride_that_its_weights_were_trained_with(tmp_path: Path) -> None:
    # Rows of the zoo for CIFAR's bottlenecks had it on the 3×3 once; folders of them hold their own spec.
    spec = dataclasses.replace(zoo.entry("resnet164.preact").spec, depths=(1, 1, 1), stride_on="3x3")
    network = create(spec, seed=3).eval()
    save(network, tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert loaded.spec.stride_on == "3x3"
    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(images), network(images))
        other = create(dataclasses.replace(spec, stride_on="1x1"), seed=3).eval()
        assert not torch.allclose(other(images), network(images), atol=1e-3)


@pytest.mark.parametrize(
    "name", short(["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"], "resnet18")
)
def test_timm_opens_the_folder_with_the_same_logits(tmp_path: Path, name: str) -> None:
    import timm

    preprocess = Preprocess(crop_px=64, resize_px=73, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    network = create(name, num_classes=5, seed=3)
    with torch.no_grad():  # statistics that are not the initial ones
        network(torch.randn(8, 3, 64, 64))
    save(network, tmp_path / "model", label_names=list("abcde"), preprocess=preprocess)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            load(tmp_path / "model").network(images), theirs(images), rtol=1e-5, atol=1e-5
        )
    data = timm.data.resolve_model_data_config(theirs)
    assert (*tuple(data["input_size"]), *data["mean"]) == (3, 64, 64, 0.4, 0.5, 0.6)
    resize = timm.data.create_transform(**data, is_training=False).transforms[0]
    assert resize.size == 73
    assert theirs.pretrained_cfg["label_names"] == list("abcde")


@pytest.mark.parametrize(
    "name",
    short(["resnet50.v1", "resnet34.c", "plain18", "resnet20", "resnet18.preact"], "plain18", "resnet20"),
)
def test_timm_refuses_a_network_that_it_does_not_have(tmp_path: Path, name: str) -> None:
    import timm

    save(create(name, num_classes=2), tmp_path / "m")
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)


def test_timm_opens_a_gray_network(tmp_path: Path) -> None:
    import timm

    preprocess = Preprocess(crop_px=64, resize_px=64, mean=(0.5,), std=(0.5,), channels="gray")
    save(create("resnet18", num_classes=2, in_channels=1), tmp_path / "m", preprocess=preprocess)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(load(tmp_path / "m").network(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("crop_px", range(1, 400, 7))
def test_crop_pct_gives_the_resize_back_by_the_formula_of_timm(crop_px: int) -> None:
    for resize_px in range(crop_px, 2 * crop_px, 5):
        preprocess = Preprocess(crop_px=crop_px, resize_px=resize_px, mean=(0, 0, 0), std=(1, 1, 1))
        assert math.floor(crop_px / preprocess.crop_pct) == resize_px


def test_a_bare_network_is_saved_with_plain_names(tmp_path: Path) -> None:
    save(create("resnet20", num_classes=3), tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert loaded.label_names == ("0", "1", "2")
    assert loaded.preprocess == zoo.entry("resnet20").preprocess


def test_a_network_of_ones_own_is_saved_as_custom(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["architecture"] == "custom"


def test_the_card_states_the_facts_and_escapes_what_comes_from_outside(
    tmp_path: Path, tiny_model: TorchClassifier
) -> None:
    tiny_model.label_names = ("a|b", "<script>", "line\nbreak")
    tiny_model.metrics = {"test": {"top1": 0.81, "top5": 1.0, "loss": 0.5, "count": 1234}}
    save(tiny_model, tmp_path / "m")
    card = (tmp_path / "m" / "README.md").read_text()
    assert (
        "| split | top-1 | loss | images |\n|---|---:|---:|---:|\n| test | 0.8100 | 0.5000 | 1,234 |" in card
    )
    assert r"a\|b, \<script\>, line break" in card


def test_the_card_of_many_classes_has_top5(tmp_path: Path) -> None:
    network = create(dataclasses.replace(TINY, num_classes=11))
    model = TorchClassifier(network, tuple("abcdefghijk"), SMALL_INPUT)
    model.metrics = {"test": {"top1": 0.81, "top5": 0.9, "loss": 0.5, "count": 1234}}
    save(model, tmp_path / "m")
    card = (tmp_path / "m" / "README.md").read_text()
    assert (
        "| split | top-1 | top-5 | loss | images |\n|---|---:|---:|---:|---:|\n| test | 0.8100 | 0.9000 |"
        in card
    )


def test_saving_over_something_else_is_refused(tmp_path: Path, tiny_model: TorchClassifier) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="exists and is no model folder"):
        save(tiny_model, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"


def test_a_string_is_no_list_of_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="label_names is 'ab'; expected a list of strings"):
        save(create("resnet20", num_classes=2), tmp_path / "m", label_names="ab")


def test_loading_to_a_device_that_cannot_compute_is_refused(folder: Path) -> None:
    for device in ("meta", "cpu:7", "foo"):
        with pytest.raises(ConfigurationError, match=f"device '{device}' is not available"):
            load(folder, device)


def test_names_for_a_model_that_has_them_are_refused(tmp_path: Path, tiny_model: TorchClassifier) -> None:
    with pytest.raises(ConfigurationError, match="belong to a bare network"):
        save(tiny_model, tmp_path / "m", label_names=["x", "y", "z"])


def test_a_failed_save_leaves_the_old_model(
    folder: Path, tiny_model: TorchClassifier, monkeypatch: Any
) -> None:
    before = (folder / "model.safetensors").read_bytes()

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(RunError, match="No space left on device"):
        save(tiny_model, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]


# -- damaged and hostile folders ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(num_classes=4), "num_classes is 4 and the spec says 3"),
        (lambda c: c.update(label_names=["a", "b"]), "there are 2 label names for a classifier of 3 rows"),
        (lambda c: c.update(label_names=["a", "b", "a"]), "label name 'a' occurs twice"),
        (lambda c: c.update(label_names=["a", "b", 3]), "label_names is not a list of strings"),
        # It is a folder of timm's then.
        (lambda c: c.pop("residual"), "the architecture is 'custom'; expected one of resnet18"),
        (
            lambda c: c["residual"].update(format_version=99),
            "format_version is 99; expected 1; update Residual",
        ),
        (lambda c: c["residual"].update(trust_remote_code=True), "unknown section .* 'trust_remote_code'"),
        (lambda c: c["residual"]["spec"].update(_target_="os.system"), "unknown field '_target_'"),
        (lambda c: c["residual"]["spec"].update(depths=[0, 0]), "depths holds 0"),
        (lambda c: c["residual"]["spec"].update(widths=[10**9, 8]), "widths holds 1000000000"),
        (lambda c: c["residual"]["preprocess"].update(std=[0, 1, 1]), r"std is \[0.0, 1.0, 1.0\]"),
        (
            lambda c: c["residual"]["preprocess"].update(mean=[0.5] * 4),
            "mean is .* expected 3 finite numbers",
        ),
        (lambda c: c["residual"]["preprocess"].update(crop_px=0), "crop_px is 0"),
        (lambda c: c["residual"].update(metrics={"test": {"top1": "<b>"}}), "the metrics of 'test' are"),
        (lambda c: c["residual"].pop("preprocess"), "section 'preprocess' is missing"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(
    folder: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_config(folder, edit)
    with pytest.raises(ModelFileError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON in UTF-8"),
        (b"\xff\xfe{}", "is not JSON in UTF-8"),
        (b"[" * 100_000, r"is not plain JSON \(nested too deep\)"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, r"is not plain JSON \(nested too deep\); expected 100 levels"),
        (b'{"residual": {}, "residual": {}}', r"is not JSON in UTF-8 \(the name 'residual' is there twice\)"),
        (b'{"residual": {"a": 1, "a": 2}}', r"the name 'a' is there twice"),
        (b'{"a": Infinity}', "Infinity is no JSON"),
        (b'{"a": 1e400}', "the number 1e400 is too large"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            r"Git LFS pointer .*run 'git lfs pull'",
        ),
        (b"[1]", "holds a list; expected a JSON object"),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda s: s["fc.weight"].view(-1)[:2].fill_(math.nan),
            "tensor fc.weight has 2 values that are not finite",
        ),
        (lambda s: s["bn1.running_var"].fill_(math.inf), "tensor bn1.running_var has 4 values"),
        (lambda s: s.pop("fc.bias"), r"does not fit the network .*− fc\.bias \(3,\)"),
        (lambda s: s.update(extra=torch.ones(2)), r"does not fit the network .*\+ extra \(2,\)"),
        (
            lambda s: s.update({"conv1.weight": torch.ones(4, 3, 5, 5)}),
            r"± conv1\.weight \(4, 3, 5, 5\) for \(4, 3, 3, 3\)",
        ),
        (
            lambda s: s.update({"fc.weight": torch.ones(7, 8)}),
            "the classifier has 7 rows and the config says 3",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, edit: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    edit_weights(folder, edit)
    with pytest.raises(ModelFileError, match=message):
        load(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(ModelFileError, match=r"model\.safetensors is (damaged or no safetensors file|empty)"):
        load(folder)


def test_a_pickle_under_the_name_of_weights_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    (folder / "model.safetensors").write_bytes(payload)
    with pytest.raises(
        ModelFileError, match="is a Python pickle that is no torch file; expected a safetensors"
    ):
        load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda t: t.to(torch.float8_e4m3fn),
            "is of type float8_e4m3fn; expected float16, bfloat16, float32 or",
        ),
        (lambda t: t.to(torch.float8_e5m2), "is of type float8_e5m2"),
        (lambda t: t > 0, "is of type bool; expected float16"),
        (lambda t: t.to(torch.complex64), "is of type complex64; expected float16"),
        (lambda t: t.abs().to(torch.uint64), "is of type uint64"),
        (lambda t: torch.full_like(t, 2**62, dtype=torch.int64), "is of type int64"),
        (
            lambda t: torch.full_like(t, 1e300, dtype=torch.float64),
            r"has values up to 1e\+300 in float64; expected",
        ),
        (lambda t: torch.full_like(t, math.inf), "has 24 values that are not finite"),
    ],
)
def test_weights_that_no_network_has_are_refused_by_name(
    folder: Path, change: Callable[[torch.Tensor], torch.Tensor], found: str
) -> None:
    edit_weights(folder, lambda s: s.update({"fc.weight": change(s["fc.weight"])}))
    with pytest.raises(ModelFileError, match=f"model.safetensors: tensor fc.weight {found}"):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_as_float32(folder: Path, dtype: torch.dtype) -> None:
    edit_weights(folder, lambda s: s.update({"fc.weight": s["fc.weight"].to(dtype)}))
    assert load(folder).network.fc.weight.dtype == torch.float32


def test_a_negative_variance_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda s: s["bn1.running_var"].neg_())
    with pytest.raises(
        ModelFileError, match=r"tensor bn1.running_var has 4 negative values; expected a variance"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.fc.weight.fill_(math.nan), "tensor fc.weight has 24 values that are not finite"),
        (
            lambda n: n.double().fc.weight.fill_(1e300),
            r"tensor fc.weight has values up to 1e\+300 in float64",
        ),
        (lambda n: n.fc.to(torch.float8_e5m2), "tensor fc.weight is of type float8_e5m2"),
    ],
)
def test_no_value_is_saved_that_a_network_cannot_hold(
    folder: Path, tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    model = load(folder)
    with torch.no_grad():
        change(model.network)
    with pytest.raises(ModelFileError, match=f"^{message}"):
        save(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_network_of_another_precision_is_saved_and_read(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    save(TorchClassifier(model.network.double(), model.label_names, model.preprocess), tmp_path / "new")
    assert load(tmp_path / "new").network.conv1.weight.dtype == torch.float32


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "x/" * 3000])
def test_names_that_no_system_takes_do_not_exist(path: str) -> None:
    with pytest.raises(ModelFileError, match="does not exist; expected a folder with config.json"):
        load(path)


def test_what_a_user_may_have_meant_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=r"there are no weights, 'resnet20-cifar1'; nearest: resnet20-c"):
        load("resnet20-cifar1")
    Path("weights.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelFileError, match=r"weights.pth"):
        load("weights.pth")
    Path("timm").mkdir()
    with pytest.raises(ModelFileError, match=r"timm is not a model; expected a folder with config.json"):
        load("timm")
    with pytest.raises(ModelFileError, match=r"timm/resnet does not exist; .* write hf:timm/resnet"):
        load("timm/resnet")


HUGE = "x" * 200_000


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(num_classes=HUGE),
        lambda c: c["residual"].update(format_version=HUGE),
        lambda c: c["residual"].update({HUGE: 1}),
        lambda c: c["residual"]["spec"].update({HUGE: 1}),
        lambda c: c["residual"]["spec"].update(unit=HUGE),
        lambda c: c["residual"]["spec"].update(depths=[HUGE]),
        lambda c: c["residual"]["spec"].update(num_classes=[1] * 100_000),
        lambda c: c["residual"]["preprocess"].update(mean=HUGE),
        lambda c: c["residual"]["preprocess"].update(interpolation=HUGE),
        lambda c: c["residual"].update(metrics={HUGE: HUGE}),
        lambda c: c.update(label_names=[HUGE] * 3),
        lambda c: (c.pop("residual"), c.update(architecture=HUGE)),
    ],
)
def test_messages_stay_short_whatever_a_config_holds(
    folder: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    edit_config(folder, edit)
    with pytest.raises(ModelFileError, match=r"config\.json|the architecture is") as caught:
        load(folder)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("value", ["\ud800", "a\x1b[2Jb", "\udcff" * 3, "line\nbreak"])
def test_odd_text_in_a_config_goes_through_or_is_refused(folder: Path, tmp_path: Path, value: str) -> None:
    edit_config(
        folder,
        lambda c: (c.update(label_names=["a", "b", value]), c["residual"]["provenance"].update(x=value)),
    )
    model = load(folder)
    assert model.label_names[2] == value
    save(model, tmp_path / "again")
    assert load(tmp_path / "again").provenance["x"] == value
    edit_config(folder, lambda c: c["residual"].update({value: 1}))
    with pytest.raises(ModelFileError, match="unknown section") as caught:
        load(folder)
    str(caught.value).encode("utf-8")
    assert str(caught.value).isprintable()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model folder, and its config as it was written."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(TorchClassifier(create(TINY), ("blue", "green", "red"), SMALL_INPUT), folder)
    return folder, (folder / "config.json").read_text()


@settings(max_examples=examples(50))
@given(data=st.data())
def test_a_config_of_any_types_loads_or_is_refused_in_one_sentence(
    saved: tuple[Path, str], data: st.DataObject
) -> None:
    folder, text = saved
    config = json.loads(text)
    at: Any = config
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        if not isinstance(at[key], dict | list) or not at[key]:
            break
        at, before = at[key], at
    if not isinstance(at, dict | list) or not at:
        at = before
    key = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
    at[key] = data.draw(JSON_VALUES)
    (folder / "config.json").write_text(json.dumps(config))
    message = ""
    try:
        save(load(folder), folder.parent / "again")
    except ModelFileError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 3000


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nowhere does not exist; expected a folder with config.json"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match="empty is not a model; expected"):
        load(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"model\.safetensors does not exist"):
        load(folder)


def test_a_config_that_declares_a_giant_is_refused_before_memory_is_taken(folder: Path) -> None:
    edit_config(folder, lambda c: c["residual"]["spec"].update(widths=[65_000, 65_000]))
    with pytest.raises(ModelFileError, match="4,000,000,000 parameters"):
        load(folder)


def test_nothing_warns_on_the_way(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder).spec.depths == TINY.depths
