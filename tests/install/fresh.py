"""Build wheel and sdist, install the wheel in empty environments, and use it there as a newcomer does.

Two environments: the oldest Python with the lowest versions of the dependencies that ``pyproject.toml``
allows, and the newest Python with the newest versions. Then the extras that run exported models are added to
it. ``make test-install`` calls it; it loads gigabytes, so no other test does. Needs uv, build and twine in
the environment that runs it.

    python tests/install/fresh.py --flags '--torch-backend cpu'
"""

from __future__ import annotations

import argparse
import email
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
OLDEST, NEWEST = "3.11", "3.13"
WHAT_AN_SDIST_HOLDS = (
    "src/deepresidual/__init__.py",
    "tests/conftest.py",
    "benchmarks/README.md",
    "examples/demo.py",
    "docs/index.md",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
)
PHOTO = "photo.jpg"
COMMANDS = (
    "--version",
    "doctor",
    "models",
    "models resnet50",
    f"predict resnet56-cifar10 {PHOTO}",
    "train digits --steps 5 --batch-size 32 --weights none --out run",
    "evaluate run",
    f"predict run {PHOTO} --format csv",
    f"explain run {PHOTO} --out heat-maps",
    "report run",
    "check digits",
    "train digit-scenes --steps 2 --batch-size 2 --out boxes",
    f"predict boxes {PHOTO} --min-score 0 --draw drawn",
    "reproduce complexity --out complexity",
    "train --help-all",
    "--print-completion bash",
)
# Commands that need an extra; each is installed in addition to those before it.
EXTRAS = {
    "onnx": (
        "export run exported-onnx",
        f"predict exported-onnx {PHOTO} --format csv",
        "evaluate exported-onnx digits",
        "export run exported-pt2 --to pt2",
        f"predict exported-pt2 {PHOTO} --format csv",
        "export run for-triton --to triton",
    ),
    "openvino": (
        "export run exported-openvino --to openvino",
        f"predict exported-openvino {PHOTO} --format csv",
        f"predict exported-onnx {PHOTO} --backend openvino --format csv",
        "export run for-ovms --to ovms",
    ),
}
REFUSED = {"train digits --lr 0.1": "here it is --learning-rate 0.1", "train phots": "does not exist"}


@dataclass(frozen=True)
class Installed:
    """What an environment costs.

    Attributes:
        seconds: Time of the installation, downloads included where nothing is cached.
        packages: Number of packages.
        megabytes: Size on disk.
        torch: Version of torch.
        first_result: Seconds of the first prediction with a bundled model.
        extras: What each of the extras adds, in words.
    """

    seconds: float
    packages: int
    megabytes: float
    torch: str
    first_result: float
    extras: str

    def __str__(self) -> str:
        return (
            f"{self.packages} packages with torch {self.torch}, {self.megabytes:,.0f} MB in "
            f"{self.seconds:.0f} s, first prediction in {self.first_result:.1f} s; {len(COMMANDS)} commands "
            f"work (load {os.getloadavg()[0]:.1f}); {self.extras}"
        )


def main() -> int:
    """Do it all, print a line for each environment, and return 1 where something does not work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--flags", default="", help="more words for 'uv pip install', such as --torch-backend cpu"
    )
    parser.add_argument("--only", choices=("lowest", "highest"), help="one of the two environments")
    parser.add_argument("--python", help="another version of Python than the oldest and the newest")
    asked = parser.parse_args()
    flags = shlex.split(asked.flags)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        wheel = built(folder / "dist")
        for resolution, usual in (("lowest", OLDEST), ("highest", NEWEST)):
            if asked.only in (None, resolution):
                python = asked.python or usual
                found = installed(folder / resolution, wheel, python, resolution, flags)
                print(f"{resolution} versions on Python {python}: {found}", flush=True)
    return 0


def built(folder: Path) -> Path:
    """Build both, hold them against what an index asks for, and return the wheel."""
    run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)])
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    lacking = [name for name in WHAT_AN_SDIST_HOLDS if name not in names]
    if lacking:
        raise SystemExit(f"{sdist.name} lacks {', '.join(lacking)}")
    for file in (wheel, sdist):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    return wheel


def requirements(wheel: Path, extra: str = "") -> list[str]:
    """Return what a wheel depends on, or what one of its extras adds to that."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    listed = [line.partition(";") for line in metadata.get_all("Requires-Dist", [])]
    wanted = f"extra == '{extra}'" if extra else ""
    return [package.strip() for package, _, condition in listed if condition.strip() == wanted]


def installed(folder: Path, wheel: Path, python: str, resolution: str, flags: list[str]) -> Installed:
    """Install the wheel in an empty environment, and use it."""
    uv, environment = [sys.executable, "-m", "uv"], folder / "env"
    run([*uv, "venv", "--quiet", "--python", python, str(environment)])
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    into = ["pip", "install", "--quiet", "--python", str(binaries / "python")]
    which = "lowest-direct" if resolution == "lowest" else "highest"
    into += ["--resolution", which, *flags]

    def install(names: list[str]) -> tuple[list[str], float]:
        """Install packages, and return all that there are then, and their megabytes."""
        listed = folder / "requirements.txt"
        listed.write_text("\n".join(names))
        run([*uv, *into, "--requirement", str(listed)])
        about = ["--quiet", "--python", str(binaries / "python")]
        run([*uv, "pip", "check", *about])
        return run([*uv, "pip", "list", "--format", "freeze", *about]).splitlines(), megabytes(environment)

    started = time.monotonic()
    packages, size = install([*requirements(wheel), str(wheel)])
    seconds = time.monotonic() - started
    (torch,) = [line.partition("==")[2] for line in packages if line.startswith("torch==")]
    first_result = use(binaries, folder)
    # Commands compile Python files, which are no part of what an extra adds.
    before, added = megabytes(environment), []
    names = requirements(wheel)
    for extra, commands in EXTRAS.items():
        names += requirements(wheel, extra)
        _, after = install(names)
        for words in commands:
            run([str(binaries / "residual"), *words.split()], folder)
        added.append(f"[{extra}] adds {after - before:,.0f} MB, {len(commands)} commands work")
        before = megabytes(environment)
    return Installed(seconds, len(packages), size, torch, first_result, ", ".join(added))


def megabytes(environment: Path) -> float:
    """Return the size of an environment on disk."""
    files = (path for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def use(binaries: Path, folder: Path) -> float:
    """Run the commands, and return the time of the first prediction."""
    drawn = (
        f"from PIL import Image; Image.linear_gradient('L').resize((300, 200)).convert('RGB').save('{PHOTO}')"
    )
    run([str(binaries / "python"), "-c", drawn], folder)
    first_result = 0.0
    for words in COMMANDS:
        started = time.monotonic()
        run([str(binaries / "residual"), *words.split()], folder)
        if words.startswith("predict resnet56"):
            first_result = time.monotonic() - started
    for words, said in REFUSED.items():
        done = subprocess.run(
            [str(binaries / "residual"), *words.split()],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
        if said not in done.stderr:
            raise SystemExit(f"residual {words}: {done.stderr}")
    return first_result


def run(words: list[str], folder: Path | None = None) -> str:
    """Run a command from another folder than the checkout, and return what it prints."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=surroundings, check=False)
    if done.returncode:
        raise SystemExit(
            f"{shlex.join(words)} left with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
