"""Do the tests still find faults? Break one line at a time, and see whether a test fails.

    python tests/mutation.py CHECKOUT [--only NAME …] [--list]

Each line below stands once in the package, in whatever file, so that two commits can be compared: run it on
both and hold the lists of what was found against each other. A copy of the checkout is changed, never the
checkout. The tests are those of ``make test`` in the rooms that import the changed module, its own room
first; one that fails without the change as well is left out. A line takes minutes: run it in the background.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = ("deepresidual", "residual")  # what it is called, and was called
_COLLECTION = "no test, as they cannot even be collected"


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A fault.

    Args:
        name: What goes wrong.
        right: Part of a line that stands once in the package.
        wrong: What stands there instead.
        otherwise: Both of a commit that has another line there.
    """

    name: str
    right: str
    wrong: str
    otherwise: tuple[str, str] | None = None


MUTATIONS = (
    Mutation(
        "spec: a map of odd size is halved downwards", "return (px - 1) // 2 + 1", "return max(1, px // 2)"
    ),
    Mutation(
        "spec: one layer is not counted",
        "return 2 + sum(self.depths) * (3 if",
        "return 1 + sum(self.depths) * (3 if",
    ),
    Mutation("preprocess: deviation before mean", ".sub_(mean).div_(std)", ".div_(std).sub_(mean)"),
    Mutation(
        "recipe: the rate falls too early",
        "milestones=(80 / epochs, 121 / epochs)",
        "milestones=(70 / epochs, 121 / epochs)",
    ),
    Mutation("runtime: epochs do not change the order", "_ORDER, epoch))", "_ORDER, 0))"),
    Mutation(
        "nn: zeros come before the channels",
        "0, 0, 0, 0, self.zeros_before, after",
        "0, 0, 0, 0, after, self.zeros_before",
    ),
    Mutation(
        "data: epochs end a batch too early",
        "return -int(-epoch * num_samples // batch_size)",
        "return int(epoch * num_samples // batch_size)",
    ),
    Mutation("data: too few pictures are mirrored", "random.uniforms[2] < 0.5,", "random.uniforms[2] < 0.4,"),
    Mutation("data: soft labels sum to less than one", "1 - smoothing + rest", "1 - smoothing"),
    Mutation(
        "zoo: a stage counts its multiply-adds as parameters",
        "num_parameters=_counts(layers)[0]",
        "num_parameters=_counts(layers)[1]",
    ),
    Mutation("conversion: a kernel is turned", "value.permute(3, 2, 0, 1)", "value.permute(3, 2, 1, 0)"),
    Mutation(
        "models: of equal scores the last wins",
        "& (classes < labels[:, None])",
        "& (classes > labels[:, None])",
    ),
    Mutation(
        "evaluation: top-5 is top-1",
        "return self.top5_count / self.count",
        "return self.top1_count / self.count",
    ),
    Mutation(
        "evaluation: errors of calibration cancel",
        "* abs(part.accuracy - part.confidence)",
        "* (part.accuracy - part.confidence)",
    ),
    Mutation(
        "evaluation: views are upside down",
        "np.flip(pixels, axis=2)",
        "np.flip(pixels, axis=1)",
        ("pixels.flip(2) if mirrored", "pixels.flip(1) if mirrored"),
    ),
    Mutation(
        "explanation: what speaks against a class is shown",
        "torch.stack(sums).relu()",
        "torch.stack(sums).abs()",
    ),
    Mutation("training: warm-up begins at nothing", "(step + 1) / warmup_steps", "step / warmup_steps"),
    Mutation(
        "training: weights are averaged the wrong way round",
        "theirs[name], 1 - self._decay",
        "theirs[name], self._decay",
    ),
    Mutation(
        "training: Lamb corrects by the other moment",
        "(mean / (1 - first**step))",
        "(mean / (1 - second**step))",
    ),
    Mutation("analysis: an interval is too narrow", "_t_quantile(count - 1)", "_t_quantile(count)"),
    Mutation(
        "reporting: recall is what was missed",
        '"recall": right[row] / count',
        '"recall": 1 - right[row] / count',
    ),
    Mutation("cli: Ctrl-C leaves with another code", "return 130", "return 1"),
)


def main() -> None:
    """Try the faults and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--only", nargs="+", default=[], help="faults whose names begin so")
    parser.add_argument("--list", action="store_true", help="say where each stands, and run nothing")
    options = parser.parse_args()
    chosen = [one for one in MUTATIONS if not options.only or one.name.startswith(tuple(options.only))]
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        scratch = Path(folder) / "checkout"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "_build", "demo")
        shutil.copytree(options.checkout, scratch, ignore=ignored, symlinks=True)
        found = [try_one(scratch, one, run=not options.list) for one in chosen]
    if not options.list:
        say(f"{sum(found)} of {len(found)} found in {options.checkout}")


def try_one(checkout: Path, mutation: Mutation, *, run: bool) -> bool:
    """Break a line, run the tests until one fails, and mend the line; return whether one failed."""
    package = next(path for name in PACKAGES if (path := checkout / "src" / name).is_dir())
    path, right, wrong = place(package, mutation)
    module = (
        path.relative_to(package.parent)
        .with_suffix("")
        .as_posix()
        .replace("/", ".")
        .removesuffix(".__init__")
    )
    targets = tests_of(checkout, rooms_that_import(package, module))
    if not run:
        say(f"{mutation.name}: {module}; {' '.join(targets)}")
        return False
    whole, start = path.read_text("utf-8"), time.monotonic()
    spurious: list[str] = []
    for _ in range(10):
        path.write_text(whole.replace(right, wrong), "utf-8")
        try:
            # One folder after the other: the first finds most, and none of the others need be collected.
            failures = (first_failure(checkout, target, spurious) for target in targets)
            failed = next((failure for failure in failures if failure), "")
        finally:
            path.write_text(whole, "utf-8")
        # What fails without the fault, too, has not found it.
        if failed in ("", _COLLECTION) or not first_failure(checkout, failed, []):
            break
        spurious.append(failed)
    verdict = f"found by {failed}" if failed else "NOT FOUND"
    say(f"{mutation.name}: {verdict} ({time.monotonic() - start:.0f} s)")
    return bool(failed)


def place(package: Path, mutation: Mutation) -> tuple[Path, str, str]:
    """Return the file with the line, what stands there and what will."""
    texts = {path: path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}
    pairs = [(mutation.right, mutation.wrong), *([mutation.otherwise] if mutation.otherwise else [])]
    for right, wrong in pairs:
        hits = [path for path, text in texts.items() if right in text]
        if len(hits) == 1 and texts[hits[0]].count(right) == 1:
            return hits[0], right, wrong
    raise SystemExit(
        f"{mutation.name}: {mutation.right!r} does not stand once in {package}; give it another line"
    )


def rooms_that_import(package: Path, module: str) -> list[str]:
    """Return the rooms with a file that imports the module, its own first."""
    own = module.split(".")[1]
    parent, _, name = module.rpartition(".")
    # Through the face of its room, too.
    face = rf"|from {re.escape(parent)} import" if "." in parent else ""
    by_name = rf"|from {re.escape(parent)} import .*\b{name}\b"
    pattern = re.compile(rf"^\s*((from|import) {re.escape(module)}\b{by_name}{face})", re.MULTILINE)
    others = {
        path.relative_to(package).parts[0].removesuffix(".py")
        for path in package.rglob("*.py")
        if pattern.search(path.read_text("utf-8"))
    }
    return [own, *sorted(others - {own, "__init__", "__main__"})]


def tests_of(checkout: Path, rooms: list[str]) -> list[str]:
    """Return folders and files of the tests of rooms, and what compares or kills where it concerns them."""
    tests = checkout / "tests"
    found = [path for room in rooms for path in (tests / f"test_{room}.py", tests / room)]
    if {"nn", "conversion"} & set(rooms):
        found.append(tests / "parity")
    if "training" in rooms:
        found.append(tests / "survival")
    if {"zoo", "spec"} & set(rooms):
        found.insert(1, tests / "test_table.py")
    return [path.relative_to(checkout).as_posix() for path in found if path.exists()]


def first_failure(checkout: Path, target: str, spurious: list[str]) -> str:
    """Return the id of the first test that fails; empty where none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", target]
    command += [word for test in spurious for word in ("--deselect", test)]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if match := re.search(
        r"^(?:FAILED|ERROR) (tests/\S+\.py(?:::.*?)?)(?: - .*)?$", done.stdout, re.MULTILINE
    ):
        return match[1]
    if done.returncode not in (0, 5):
        return _COLLECTION
    return ""


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
