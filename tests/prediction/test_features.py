"""Features of files: the numbers of the network, in parquet and NumPy, of classifiers and backbones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deepresidual.backends import Classifier
from deepresidual.cli import main
from deepresidual.data.decode import decode
from deepresidual.errors import ConfigurationError, DataError, ModelFileError, UnknownNameError
from deepresidual.models import TorchClassifier, create, save
from deepresidual.prediction.features import FeatureOutputs
from deepresidual.prediction.folder import PredictionFolder
from deepresidual.spec import Head, ResNetSpec
from tests.conftest import SMALL_INPUT, TINY

Capture = pytest.CaptureFixture[str]

PREACTIVATED = ResNetSpec(
    unit="basic",
    depths=(1, 1),
    widths=(4, 8),
    stem="cifar",
    shortcut="A",
    num_classes=3,
    arrangement="full-preactivation",
)


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier, photos: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a model in the current folder, with 15 files in ``photos/test``, one damaged."""
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "model")
    bad = Path("photos/test/blue/blue-002.png")
    bad.write_bytes(bad.read_bytes()[:-40])
    return "model"


def extract(*options: str) -> int:
    return main(["predict", "model", "photos/test", "--workers", "0", *options])


def pixels_of(paths: list[Path]) -> Any:
    return np.stack([SMALL_INPUT.center_view(decode(path.read_bytes())) for path in paths])


def test_features_are_what_the_classifier_reads(tiny_model: TorchClassifier, photos: Path) -> None:
    paths = sorted((photos / "test").rglob("*.png"))
    features = tiny_model.extract_features(paths, batch_size=15)
    assert features.shape == (15, 8)
    assert features.dtype == np.float32
    logits = tiny_model.network.fc(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_array_equal(logits, tiny_model.logits(pixels_of(paths)))
    np.testing.assert_array_equal(
        tiny_model.extract_features(paths[0]), tiny_model.features(pixels_of(paths[:1]))
    )
    assert tiny_model.extract_features([]).shape == (0, 0)


@pytest.mark.parametrize("spec", [TINY, PREACTIVATED])
@pytest.mark.parametrize("stage", ["stem", "layer1", "layer2"])
def test_a_stage_is_the_mean_of_its_map(spec: ResNetSpec, stage: str, photos: Path) -> None:
    model = TorchClassifier(create(spec), ("a", "b", "c"), SMALL_INPUT)
    pixels = pixels_of(sorted((photos / "test" / "red").glob("*.png")))
    with torch.inference_mode():
        maps = model.network.eval().features(SMALL_INPUT.normalize(torch.from_numpy(pixels)))
        expected = maps[stage].mean(dim=(2, 3)).numpy()
    np.testing.assert_array_equal(model.features(pixels, stage), expected)
    # What the classifier reads is activated, and the map of a pre-activation network's last stage is not.
    if stage == "layer2":
        assert np.array_equal(model.features(pixels), expected) == (spec is TINY)


def test_a_head_that_reads_several_stages_gives_all_that_it_reads(photos: Path) -> None:
    network = create(TINY)
    network.reset_classifier(3, head=Head(("layer1", "layer2"), ("mean", "std")))
    model = TorchClassifier(network, ("a", "b", "c"), SMALL_INPUT)
    assert model.extract_features(photos / "test" / "red" / "red-000.png").shape == (1, 2 * (4 + 8))


def test_later_stages_are_not_run(tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tiny_model.network, "layer2")
    assert tiny_model.features(np.zeros((1, 8, 8, 3), np.uint8), "layer1").shape == (1, 4)


def test_parquet_holds_lists_of_fixed_size_and_null_for_what_cannot_be_used(
    model: str, capsys: Capture
) -> None:
    assert extract("--features", "--dtype", "float16", "--out", "features.parquet") == 3
    out, err = capsys.readouterr()
    assert out == "features.parquet: 15 rows of 8 features (float16), 1 of them an error\n"
    assert "warning: photos/test/blue/blue-002.png: damaged PNG" in err
    table = pq.read_table("features.parquet")
    assert table.schema.field("features").type == pa.list_(pa.float16(), 8)
    rows = table.to_pylist()
    assert [row["features"] is None for row in rows] == [number == 2 for number in range(15)]
    assert rows[2]["error"].startswith("damaged PNG")
    good = [row for row in rows if not row["error"]]
    expected = TorchClassifier.extract_features(loaded(model), [row["path"] for row in good])
    found = np.array([row["features"] for row in good], np.float32)
    np.testing.assert_array_equal(found, expected.astype(np.float16))


def loaded(name: str) -> TorchClassifier:
    from deepresidual.models import load_torch

    return load_torch(name)


def test_an_array_has_its_names_beside_it(model: str, capsys: Capture) -> None:
    assert extract("--features", "layer1", "--out", "features.npy", "--json") == 3
    assert json.loads(capsys.readouterr().out) == {
        "schema_version": 1,
        "out": "features.npy",
        "count": 15,
        "num_errors": 1,
        "fast_decode": False,
        "stage": "layer1",
        "num_features": 4,
        "dtype": "float32",
    }
    values = np.load("features.npy")
    names = [json.loads(line) for line in Path("features.jsonl").read_text().splitlines()]
    assert (values.shape, values.dtype, len(names)) == ((15, 4), np.float32, 15)
    assert np.isnan(values).all(axis=1).tolist() == [bool(name["error"]) for name in names]
    assert np.isnan(values).any(axis=1).sum() == 1
    expected = loaded(model).extract_features([name["path"] for name in names if not name["error"]], "layer1")
    np.testing.assert_array_equal(values[~np.isnan(values[:, 0])], expected)


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_folders_of_features_go_on(model: str, capsys: Capture, kind: str) -> None:
    words = ("--features", "--out", "parts", "--shard-size", "4", "--format", kind)
    assert extract(*words, "--shard", "1/2") == 0  # the damaged file is in the other half
    assert extract(*words) == 3
    assert capsys.readouterr().out.splitlines() == [
        "parts: 2 of 4 shards are done",
        "parts: 15 rows in 4 shards, 1 error",
    ]
    for number in range(4):
        assert Path(f"parts/part-0000{number}.{kind}").is_file()
    if kind == "parquet":
        assert len(pq.read_table("parts")) == 15
    else:
        assert sum(len(np.load(path)) for path in Path("parts").glob("*.npy")) == 15
        assert sum(len(path.read_text().splitlines()) for path in Path("parts").glob("*.jsonl")) == 15
    capsys.readouterr()
    assert extract("--features", "layer1", "--out", "parts") == 2
    assert "parts was begun with something else: stage was none and is layer1;" in capsys.readouterr().err
    assert extract("--out", "parts") == 2
    assert "else: outputs was features and is classes, " in capsys.readouterr().err


def test_a_backbone_has_features_and_no_classes(
    model: str, tiny_model: TorchClassifier, capsys: Capture
) -> None:
    tiny_model.network.reset_classifier(0)
    backbone = TorchClassifier(tiny_model.network, (), SMALL_INPUT)
    save(backbone, "model")
    assert extract("--features", "--out", "features.npy") == 3
    assert np.load("features.npy").shape == (15, 8)
    assert extract("--out", "rows.csv") == 3
    assert "is a backbone without a classifier" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features"], "--features is given without --out; expected a .parquet or .npy file, or a folder"),
        (["--features", "--out", "a.csv"], "--out is 'a.csv'; expected a name in .parquet, .npy, or one"),
        (
            ["--features", "--out", "a.npy", "--top-k", "2"],
            "--top-k is given with --features, which",
        ),
        (["--features", "--out", "a.npy", "--min-probability", "0.5"], "--min-probability is given with"),
        (
            ["--features", "layer9", "--out", "a.npy"],
            "unknown stage 'layer9' (nearest: layer2, layer1); expected one of stem, layer1, layer2",
        ),
        (
            ["--features", "--out", "parts", "--format", "csv"],
            "--format is csv, and --out a folder;",
        ),
        (
            ["--features", "layer1", "b.png", "--out", "a.npy"],
            "--features is followed by 2 words (layer1",
        ),
        (["--format", "npy"], "--format is npy without a file; add --out FILE.npy"),
        (["--dtype", "float16"], "--dtype is given without --features; expected both or none"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    model: str, capsys: Capture, options: list[str], message: str
) -> None:
    assert extract(*options) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(path.name for path in Path().iterdir()) == ["model", "photos"]


def test_paths_behind_the_option_are_answered(model: str, capsys: Capture) -> None:
    assert main(["predict", model, "--features", "photos", "--out", "a.npy"]) == 2
    assert "there is no PATH; expected" in (said := capsys.readouterr().err)
    assert "put them before --features" in said


class Colours(Classifier):
    """A model that another backend computes."""

    backend = "NumPy"
    label_names = ("red", "green", "blue")
    preprocess = SMALL_INPUT

    def logits(self, pixels: Any) -> Any:
        return pixels.mean(axis=(1, 2), dtype=np.float32)


def test_a_backend_without_features_says_so(photos: Path) -> None:
    with pytest.raises(ModelFileError, match="features are asked for, and NumPy computes logits alone"):
        FeatureOutputs(Colours())
    with pytest.raises(ModelFileError, match="expected a model that PyTorch computes; give the model folder"):
        Colours().extract_features(photos / "test" / "red" / "red-000.png")


def test_what_is_too_large_for_half_precision_is_an_error_of_its_row(
    model: str, tiny_model: TorchClassifier
) -> None:
    with torch.no_grad():
        tiny_model.network.layer2[0].bn2.bias.fill_(1e5)  # type: ignore[union-attr,index]
    outputs = FeatureOutputs(tiny_model, dtype="float16")
    folder = PredictionFolder.open(outputs, ["photos/test/red"], "parts", suffix=".npy")
    assert folder.run().num_errors == 5
    (_, reason), *_ = outputs.errors(Path("parts/part-00000.npy"))
    assert reason == "a feature of 1e+05 is too large for float16"


def test_features_that_are_not_finite_are_errors(tiny_model: TorchClassifier, photos: Path) -> None:
    with torch.no_grad():
        tiny_model.network.conv1.weight.fill_(3e38)
        tiny_model.network.conv1.weight[::2] *= -1
    with pytest.raises(ModelFileError, match="red-000.png: the features are not finite"):
        tiny_model.extract_features([photos / "test" / "red" / "red-000.png"])


def test_a_bad_image_and_a_bad_number_are_named(tiny_model: TorchClassifier, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="a.png: the file is empty"):
        tiny_model.extract_features(tmp_path / "a.png")
    with pytest.raises(UnknownNameError, match="unknown stage 'layer7'"):
        tiny_model.extract_features(np.zeros((9, 9, 3), np.uint8), "layer7")
    with pytest.raises(ConfigurationError, match="batch_size is 0; expected 1 or more"):
        FeatureOutputs(
            tiny_model,
            settings=__import__("deepresidual.prediction.outputs", fromlist=["x"]).ComputeSettings(
                batch_size=0
            ),
        )
