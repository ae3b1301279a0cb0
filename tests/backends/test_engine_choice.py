"""Which engine computes an exported model: what is tried, remembered, said, and left out."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepresidual.backends import engine_choice, engine_trial
from deepresidual.backends.detector_session import DetectorSession
from deepresidual.backends.engine import ENGINES, EngineSettings
from deepresidual.backends.engine_choice import EngineChoice, candidates_of
from deepresidual.backends.engine_trial import Trial, try_engines
from deepresidual.backends.session import LogitsSession
from deepresidual.backends.signature import Signature, Tensor, read_signature
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.models.exported import load_exported
from deepresidual.runtime import autotune

FOLDER = Path("exported")
SIGNATURE = Signature("onnx", "model.onnx", "0" * 64, "fp32", (Tensor("pixels", "uint8", (), ""),), (), {})
CANDIDATES = (EngineSettings("onnxruntime", streams=2), EngineSettings("openvino", streams=2))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_choice, "usable_cores", lambda: 2)
    return tmp_path / "cache" / "engines.json"


class Machine:
    """Sessions that take told seconds for an image, by a clock that goes on only then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.seconds: dict[str, float] = {"onnxruntime": 0.05, "openvino": 0.05}
        self.to_open: dict[str, float] = {}
        self.batch_saves = 0.0
        self.batches_of = ""  # of every engine
        self.pairs_save = 0.0
        self.wrong: set[str] = set()
        self.opened: list[EngineSettings] = []
        self._lock = threading.Lock()
        machine = self

        class FakeSession:
            takes_batches = True

            def __init__(self, folder: Path, signature: Signature, settings: EngineSettings) -> None:
                machine.now += machine.to_open.get(settings.engine, 0.1)
                machine.opened.append(settings)
                if settings.engine in machine.wrong:
                    raise ModelFileError(f"{settings.engine} computes wrongly here")
                self.settings = settings
                self.first_s = machine.seconds[settings.engine]

            @staticmethod
            def require_self_test(folder: Path) -> None:
                assert folder == FOLDER

            def with_batch(self, batch: int) -> FakeSession:
                return FakeSession(FOLDER, SIGNATURE, replace(self.settings, batch=batch))

            def with_settings(self, settings: EngineSettings) -> FakeSession:
                return FakeSession(FOLDER, SIGNATURE, settings)

            def compute_stored(self) -> None:
                batch = self.settings.batch
                has_batches = machine.batches_of in ("", self.settings.engine)
                saved = machine.batch_saves if batch > 1 and has_batches else 0.0
                saved += machine.pairs_save if self.settings.threads == 2 else 0.0
                with machine._lock:
                    machine.now += batch * machine.seconds[self.settings.engine] * (1 - saved)

        self.session_type: Any = FakeSession
        for module in (autotune, engine_trial):
            monkeypatch.setattr(module, "time", self)

    def perf_counter(self) -> float:
        return self.now

    process_time = perf_counter


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def tried(
    machine: Machine, candidates: tuple[EngineSettings, ...] = CANDIDATES, num_images: int = 64
) -> Trial[Any]:
    return try_engines(machine.session_type, FOLDER, SIGNATURE, candidates, num_images)


# -- trying --------------------------------------------------------------------------------------------------


def test_the_faster_engine_is_taken(machine: Machine) -> None:
    machine.seconds["openvino"] = 0.04
    trial = tried(machine)
    assert (trial.session.settings.engine, trial.is_clear) == ("openvino", True)
    assert trial.reason == "measured: onnxruntime takes 1.25 of its time"
    assert machine.now < 3.3


def test_one_that_is_far_behind_is_given_up(machine: Machine) -> None:
    machine.seconds["openvino"] = 0.3
    trial = tried(machine)
    assert trial.session.settings == CANDIDATES[0]
    assert trial.reason == "measured: openvino is far behind"


@pytest.mark.parametrize(("seconds", "batch"), [(0.001, 8), (0.01, 4), (0.05, 1)])
def test_a_batch_is_taken_where_it_saves_time(machine: Machine, seconds: float, batch: int) -> None:
    machine.seconds = {"onnxruntime": seconds, "openvino": 1.1 * seconds}
    assert tried(machine).session.settings == CANDIDATES[0]
    machine.batch_saves = 0.3
    trial = tried(machine)
    assert trial.session.settings == replace(CANDIDATES[0], batch=batch)
    assert (trial.reason, trial.is_clear) == ("measured: openvino takes 1.10 of its time", True)


def test_an_engine_whose_batch_is_the_fastest_of_all_is_found(machine: Machine) -> None:
    machine.seconds = {"onnxruntime": 0.01, "openvino": 0.0105}
    machine.batch_saves, machine.batches_of = 0.4, "openvino"
    assert tried(machine).session.settings == replace(CANDIDATES[1], batch=4)


@pytest.mark.parametrize(("saves", "expected"), [(0.0, (8, 1)), (0.2, (4, 2))])
def test_streams_of_two_threads_are_tried_on_many_cores(
    machine: Machine, saves: float, expected: tuple[int, int]
) -> None:
    machine.pairs_save, machine.seconds["onnxruntime"] = saves, 0.03
    settings = tried(machine, (EngineSettings("onnxruntime", streams=8),)).session.settings
    assert (settings.streams, settings.threads) == expected


def test_what_takes_too_long_to_open_is_not_tried_and_nothing_is_clear(machine: Machine) -> None:
    machine.to_open["onnxruntime"] = 2.0
    trial = tried(machine)
    assert [settings.engine for settings in machine.opened] == ["onnxruntime"]
    assert (trial.reason, trial.is_clear) == ("too slow or too busy here to try another", False)


def test_of_many_slow_images_a_fifth_of_their_time_is_for_trying(machine: Machine) -> None:
    machine.session_type.takes_batches = False
    machine.to_open, machine.seconds = (
        {"onnxruntime": 1.0, "openvino": 1.5},
        {"onnxruntime": 0.5, "openvino": 0.3},
    )
    assert tried(machine, num_images=60).reason.startswith("too slow or too busy here")
    machine.now = 0.0
    trial = tried(machine, num_images=300)
    assert (trial.session.settings, trial.is_clear) == (CANDIDATES[1], True)
    assert machine.now < 0.2 * 300 * 0.5 / 2 + 1


def test_an_engine_that_computes_wrongly_is_left_out_and_told_of(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.wrong = {"onnxruntime"}
    assert tried(machine).session.settings.engine == "openvino"
    assert "warning: onnxruntime is left out: onnxruntime computes wrongly here" in capsys.readouterr().err
    machine.wrong = {"onnxruntime", "openvino"}
    with pytest.raises(ModelFileError, match="onnxruntime computes wrongly here"):
        tried(machine)


def test_real_engines_are_tried(onnx_folder: Path) -> None:
    trial = try_engines(LogitsSession, onnx_folder, read_signature(onnx_folder), CANDIDATES, 64)
    assert trial.session.settings.engine in ("onnxruntime", "openvino")
    assert trial.session.logits(np.zeros((5, 8, 8, 3), np.uint8)).shape == (5, 3)


# -- choosing ------------------------------------------------------------------------------------------------


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EngineSettings, ...]]:
    """Choose openvino in place of trying; return what was to be tried."""
    done: list[tuple[EngineSettings, ...]] = []

    def choose(
        _: object, folder: Path, signature: Signature, candidates: tuple[EngineSettings, ...], num_images: int
    ) -> Trial[Any]:
        assert num_images >= 64
        done.append(candidates)
        settings = replace(candidates[-1], batch=4)
        return Trial(LogitsSession(folder, signature, settings), "measured", is_clear=True)

    monkeypatch.setattr(engine_choice, "try_engines", choose)
    return done


def test_nothing_is_tried_below_64_images(onnx_folder: Path, trials: list[Any], cache: Path) -> None:
    model = load_exported(onnx_folder).expect(63)
    assert model.settings == EngineSettings("onnxruntime", streams=2)
    model.expect(63)
    assert not trials
    assert not cache.exists()


def test_from_64_images_on_it_is_tried_once_and_said(
    onnx_folder: Path, trials: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_exported(onnx_folder).expect(64)
    model.expect(640)
    assert model.settings == EngineSettings("openvino", streams=2, batch=4)
    assert capsys.readouterr().err == "computing  openvino, 2 streams of 1 thread, batch 4 (measured)\n"
    assert load_exported(onnx_folder).expect(64).settings == model.settings
    assert "batch 4 (measured at an earlier time)" in capsys.readouterr().err
    assert load_exported(onnx_folder).expect(9).settings == model.settings
    assert load_exported(onnx_folder).expect(4).settings.engine == "onnxruntime"  # which opens soonest
    assert len(trials) == 1


def test_what_is_not_clear_is_tried_again(
    onnx_folder: Path, trials: list[Any], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    usual = vars(engine_choice)["try_engines"]  # that of the fixture
    monkeypatch.setattr(engine_choice, "try_engines", lambda *words: replace(usual(*words), is_clear=False))
    for _ in range(2):
        load_exported(onnx_folder).expect(64)
    assert len(trials) == 2
    assert not cache.exists()


@pytest.mark.parametrize(
    "entry", [{}, {"engine": "other"}, {"engine": "openvino", "streams": 0, "threads": 1, "batch": "8"}]
)
def test_a_damaged_choice_is_made_again(
    onnx_folder: Path, trials: list[Any], cache: Path, entry: dict[str, Any]
) -> None:
    load_exported(onnx_folder).expect(64)
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: entry}))
    load_exported(onnx_folder).expect(64)
    assert len(trials) == 2


def test_an_engine_that_is_named_is_taken(onnx_folder: Path, trials: list[Any]) -> None:
    model = load_exported(onnx_folder, backend="onnxruntime").expect(64)
    assert model.settings.engine == "onnxruntime"
    assert trials == [CANDIDATES[:1]]


def test_few_images_are_computed_without_a_graph_for_this_processor(onnx_folder: Path) -> None:
    model = load_exported(onnx_folder)
    optimized = [model.expect(1).settings.optimize for _ in range(6)]
    assert optimized == [False] * 4 + [True] * 2
    assert load_exported(onnx_folder).expect(5).settings.optimize


class OneAtATime:
    """A session of what computes single images in another way, as detectors do."""

    def __init__(self, folder: Path, signature: Signature, settings: EngineSettings) -> None:
        assert (folder, signature) == (FOLDER, SIGNATURE)
        self.settings = settings

    @staticmethod
    def require_self_test(folder: Path) -> None:
        assert folder == FOLDER

    are_few = staticmethod(DetectorSession.are_few)
    for_few = staticmethod(DetectorSession.for_few)


def test_images_that_come_one_at_a_time_keep_their_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "require_unchanged", lambda *_: None)
    kind: Any = OneAtATime
    choice = EngineChoice[Any](kind, FOLDER, SIGNATURE, CANDIDATES)
    assert choice.settings == CANDIDATES[0]
    choice.expect(1)
    alone = choice.session()
    assert alone.settings == replace(CANDIDATES[0], streams=1, threads=2)
    choice.expect(1)
    assert choice.session() is alone
    choice.expect(2)
    assert choice.session().settings == CANDIDATES[0]
    several = choice.session()
    choice.expect(1)
    assert choice.session() is several


def test_a_file_that_has_changed_is_refused(onnx_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(onnx_folder, tmp_path / "copy"))
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelFileError, match="is not the file that"):
        load_exported(folder).expect(64)


# -- engines that are missing or fail ------------------------------------------------------------------------


def test_the_engine_that_is_installed_is_taken(onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else 1)
    assert load_exported(onnx_folder).expect(1).settings.engine == "openvino"


def test_none_installed_is_named_with_the_extra(onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"onnxruntime.*pip install 'deepresidual\[onnx\]'"):
        load_exported(onnx_folder).expect(1)


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ONNX Runtime compute wrongly."""
    from deepresidual.backends.onnx_runtime import OnnxRuntimeEngine

    usual = OnnxRuntimeEngine.logits
    monkeypatch.setattr(OnnxRuntimeEngine, "logits", lambda self, pixels: usual(self, pixels)[:, ::-1])


def test_auto_goes_on_with_the_next_engine_and_says_so(
    onnx_folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(monkeypatch)
    assert main(["predict", str(onnx_folder), str(photos / "test")]) == 0
    told = capsys.readouterr().err
    assert told.startswith("warning: onnxruntime is left out: onnxruntime ")
    assert "computes wrongly here" in told


def test_an_engine_that_is_named_and_computes_wrongly_is_an_error(
    onnx_folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(monkeypatch)
    words = ["predict", str(onnx_folder), str(photos / "test"), "--backend", "onnxruntime"]
    assert main(words) == 3
    assert "computes wrongly here" in capsys.readouterr().err


# -- precision -----------------------------------------------------------------------------------------------


def test_bf16_is_computed_by_the_engine_that_has_it(onnx_folder: Path) -> None:
    model = load_exported(onnx_folder)
    assert model.in_precision("bf16").settings == EngineSettings("openvino", streams=2, precision="bf16")
    assert model.settings.engine == "onnxruntime"


def test_an_engine_without_bf16_refuses_it() -> None:
    with pytest.raises(
        ConfigurationError,
        match="precision is 'bf16' for a model that onnxruntime computes; expected fp32",
    ):
        candidates_of(("onnxruntime",), "bf16")


# -- shards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_shards_stay_with_the_engine_of_the_first(
    onnx_folder: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = photos / "test" if command == "predict" else photos
    words = [command, str(onnx_folder), str(data), "--out", str(tmp_path / "out"), "--shard-size", "6"]
    words += ["--batch-size", "3"]
    assert main([*words, "--shard", "0/2"]) == 0
    # On another machine openvino is the preferred one.
    monkeypatch.setitem(ENGINES, "onnx", ("openvino", "onnxruntime"))
    assert load_exported(onnx_folder).backend == "openvino"
    assert main([*words, "--shard", "1/2"]) == 0
    assert main([*words, "--shard", "1/2", "--backend", "openvino"]) == 2
    assert "was begun with something else: backend was onnxruntime and is openvino" in capsys.readouterr().err
