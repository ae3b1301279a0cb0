"""Write the tables of the documentation that follow from the code: python docs/update_tables.py.

A test compares the pages with what this program would write.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepresidual import zoo
from deepresidual.benchmarks import tables
from deepresidual.fields import sentences
from deepresidual.recipe import Recipe, setting_homes
from deepresidual.recipe.recipes import NAMES, named_recipe
from deepresidual.zoo.published import published
from deepresidual.zoo.verified import Comparison, verified

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepresidual.analysis.experiments.experiment import Arm

DOCS = Path(__file__).parent
REPRODUCED = DOCS.parent / "benchmarks" / "reproduced"
RESULTS = DOCS.parent / "benchmarks" / "results"

# Heads of a verdict table, by language: how a verdict is called in results.json → how here.
_HEADS = {
    "en": {
        "verdict": "verdict",
        "claim": "claim",
        "measured": "measured",
        "published": "published",
        "tolerance": "tolerance",
    },
    "zh": {
        "verdict": "结论",
        "claim": "论断",
        "measured": "测得",
        "published": "已发表",
        "tolerance": "判据",
    },
}

# Clauses of verdicts in Chinese, in the order to replace them in.
_CLAUSES_ZH = (
    (r"^training error of (\S+) above that of (\S+)$", r"训练误差：\1 高于 \2"),
    (r"^test error of (\S+) above that of (\S+)$", r"测试误差：\1 高于 \2"),
    (r"^interval of the difference above 0$", "差值的 95 % 区间全部大于 0"),
    (r"; a difference under (\S+) points does not show$", r"；小于 \1 个百分点的差别看不出来"),
    (r"^a curve, without numbers$", "只有曲线，没有数字"),
    (r"(?<=points) \((\S+), (\S+)\)$", r"（\1，\2）"),
    (r"^PASS$", "成立"),
    (r"^FAIL$", "不成立"),
    (r"^open$", "未定"),
    (r"(?<=\d) points\b", " 个百分点"),
)


def zoo_table() -> str:
    """Return the table of all networks as Markdown."""
    what, how_good = (
        "name | unit | units a stage | shortcut | parameters | MACs",
        "published error | verified against",
    )
    rows = [f"| {what} | {how_good} | source |", "|---|---|---|---|---:|---:|---|---|---|"]
    for entry in zoo.entries():
        spec = entry.spec
        cells = (
            f"`{entry.name}`",
            spec.unit,
            ", ".join(map(str, spec.depths)),
            spec.shortcut,
            f"{spec.num_parameters:,}",
            f"{entry.num_macs / 1e6:,.1f} M",
            _published_error(entry.name),
            ", ".join(dict.fromkeys(comparison.reference for comparison in verified(entry.name))),
            entry.source,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _published_error(name: str) -> str:
    """Return the first published result, which is the defining paper's, with its protocol."""
    return next((f"{result} ({result.protocol})" for result in published(name)), "")


def parity_table() -> str:
    """Return the largest difference of logits by library and direction as Markdown."""
    rows = ["| compared with | direction | networks | largest difference of a logit |", "|---|---|---:|---:|"]
    by_library: dict[tuple[str, str], list[Comparison]] = {}
    for entry in zoo.entries():
        for row in verified(entry.name):
            by_library.setdefault((str(row), row.direction), []).append(row)
    for (library, direction), compared in sorted(by_library.items()):
        largest = max(compared, key=lambda row: row.largest_difference)
        rows.append(
            f"| {library} | {direction} | {len(compared)} | "
            f"{largest.largest_difference:.1e} (`{largest.network}`) |"
        )
    return "\n".join(rows) + "\n"


def recipe_table() -> str:
    """Return the named recipes for ResNet-110 or, where they are meant for photos, ResNet-50 as Markdown."""
    rows = [
        "| recipe | length | batch | optimizer | learning rate | weight decay | images |",
        "|---|---|---:|---|---|---|---|",
    ]
    for name in NAMES:
        small = name.startswith(("digits", "cifar"))
        recipe = named_recipe(name, zoo.entry("resnet110" if small else "resnet50").spec)
        length = f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.epochs:g} epochs"
        cells = (
            f"`{name}`",
            length,
            str(recipe.batch_size),
            recipe.optimizer,
            f"{recipe.learning_rate:g}, {recipe.schedule}",
            f"{recipe.weight_decay:g}",
            _images(recipe),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _images(recipe: Recipe) -> str:
    augment, mix = recipe.augment, recipe.mix
    words: list[str] = [f"{augment.crop} with the mean" if augment.pad_fill == "mean" else augment.crop]
    words += ["mirrored"] if augment.flip else []
    words += [augment.policy] if augment.policy != "none" else []
    words += [f"mixup {mix.mixup:g}"] if mix.mixup else []
    words += [f"cutmix {mix.cutmix:g}"] if mix.cutmix else []
    words += [f"{recipe.train_px} px"] if recipe.train_px else []
    words += [recipe.interpolation] if recipe.interpolation else []
    return ", ".join(words)


def field_table() -> str:
    """Return every field of a recipe with its default and its meaning as Markdown."""
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for name, home in setting_homes().items():
        default = next(field.default for field in dataclasses.fields(home) if field.name == name)
        shown = _shown(default)
        rows.append(f"| `{name}` | {shown} | {sentences(home)[name]} |")
    return "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"`{value}`"


def experiment_table() -> str:
    """Return the experiments with what is trained at two of their scales as Markdown."""
    from deepresidual.analysis.experiments import EXPERIMENTS

    rows = ["| experiment | claim | source | laptop | paper |", "|---|---|---|---|---|"]
    for one in EXPERIMENTS:
        arms = [one.arms(scale) for scale in ("laptop", "paper")]
        cells = (f"`{one.name}`", one.claim, one.source, *map(_runs, arms))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _runs(arms: tuple[Arm, ...]) -> str:
    """Return how many networks of which depths are trained how often."""
    if not arms:
        return "nothing is trained"
    depths = sorted({arm.network.num_layers for arm in arms})
    layers = f"{depths[0]} to {depths[-1]} layers" if len(depths) > 1 else f"{depths[0]} layers"
    return f"{len(arms)} networks of {layers}, {sum(arm.num_seeds for arm in arms)} runs"


def reproduced_table(name: str, language: str = "en", folder: Path = REPRODUCED) -> str:
    """Return the verdicts of an experiment's run on a laptop as Markdown; nothing where there was none.

    Args:
        name: The experiment.
        language: ``en``, or ``zh`` where every clause of it has a translation.
        folder: Where ``NAME-laptop.json`` lies, which is a ``results.json``, perhaps shortened.
    """
    path = folder / f"{name}-laptop.json"
    if not path.exists():
        return ""
    document = json.loads(path.read_text("utf-8"))
    heads = _HEADS[language]
    rows = [f"| {' | '.join(heads.values())} |", "|---" * len(heads) + "|"]
    rows += [
        f"| {' | '.join(_clause(str(verdict[key]).replace('|', '/'), language) for key in heads)} |"
        for verdict in document["verdicts"]
    ]
    return "\n".join([*rows, "", _conditions(document)]).rstrip() + "\n"


def _clause(text: str, language: str) -> str:
    if language == "en":
        return text
    for pattern, translation in _CLAUSES_ZH:
        text = re.sub(pattern, translation, text)
    if re.search("[a-z] [a-z]", text):
        raise ValueError(f"{text!r} has no translation yet; add its clauses to _CLAUSES_ZH")
    return text


def _conditions(document: dict[str, Any]) -> str:
    """Return by what command, when, and on what it was measured, as far as that is recorded."""
    hardware = document.get("hardware", {})
    facts = [
        f"`{' '.join(document['command'])}`" if document.get("command") else "",
        str(document.get("date", ""))[:10],
        str(hardware.get("name", "")),
        f"{hardware['threads']} threads" if "threads" in hardware else "",
        *(f"{name} {version}" for name, version in document.get("versions", {}).items() if name == "torch"),
    ]
    return ", ".join(fact for fact in facts if fact)


def transfer_table(folder: Path = RESULTS) -> str:
    """Return the newest result of ``residual benchmark finetune`` as Markdown; nothing where there is none.

    Args:
        folder: Where ``DATE-MACHINE-finetune.json`` lies, the JSON document of that command.
    """
    paths = sorted(folder.glob("*-finetune.json"))
    if not paths:
        return ""
    document = json.loads(paths[-1].read_text("utf-8"))
    by_name = {row["name"]: row for row in document["rows"] if row["ours"] is not None}
    counts = sorted({row["details"]["images a class"] for row in by_name.values()})
    head = " | ".join(f"{count} images a class" for count in counts)
    rows = [f"| training | {head} |", "|---" * (len(counts) + 1) + "|"]
    for method, words in _METHODS.items():
        cells = [_transfer_cell(by_name.get(f"{method}-{count}")) for count in counts]
        rows += [f"| {words} | {' | '.join(cells)} |"] if any(cells) else []
    times = [
        f"| {by_name[name]['against']} | {count} | {_time_cells(by_name[name])} |"
        for count in counts
        for peer in ("torchvision", "timm")
        if (name := f"time-{peer}-{count}") in by_name
    ]
    if times:
        rows += [
            "",
            "| loop | images a class | times our CPU seconds | ours | reached |",
            "|---|---:|---|---:|---:|",
        ]
        rows += times
    return "\n".join([*rows, "", _conditions(document)]).rstrip() + "\n"


_METHODS = {
    "untrained": "probe of random weights",
    "scratch": "from scratch, as many updates as fine-tuning",
    "scratch-long": "from scratch, as long as it still gains",
    "probe": "probe of the learned weights",
    "finetune": "probe, then fine-tuning",
}


def _transfer_cell(row: dict[str, Any] | None) -> str:
    """Return accuracy, interval, CPU seconds and updates of a row."""
    if row is None:
        return ""
    details = row["details"]
    interval = details["interval"]
    shown = f" ({100 * interval[0]:.1f} – {100 * interval[1]:.1f})" if interval else ""
    seconds, updates = (statistics.fmean(details[name]) for name in ("cpu_seconds", "num_updates"))
    after = f", {updates:,.0f} updates" if updates else ""
    return f"{100 * row['ours']:.1f} %{shown}; {seconds:.1f} s{after}"


def _time_cells(row: dict[str, Any]) -> str:
    """Return ratio, our seconds, and how many of the runs got as far before they were cut off."""
    ratio, details = row["ratio"], row["details"]
    bound = "at least " if details["reached"] < details["of"] else ""
    spread = f"{ratio['lowest']:.1f} – {ratio['highest']:.1f}"
    reached = f"{details['reached']} of {details['of']}"
    return f"{bound}{ratio['median']:.1f} ({spread}) | {row['ours']:.1f} s | {reached}"


def detectors_table(folder: Path = RESULTS) -> str:
    """Return what detectors reach on test images as Markdown; nothing where nothing was measured.

    Args:
        folder: Where ``…detectors….json`` lie; those that ``benchmarks/detectors.py`` has written are read.
            Where several hold a data set, the last by name counts.
    """
    measured: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for path in sorted(folder.glob("*detectors*.json")):
        document = json.loads(path.read_text("utf-8"))
        if document["benchmark"] == "detectors":
            measured.update({row["name"]: (row, document) for row in document["rows"]})
    if not measured:
        return ""
    boxes, masks = ("AP50", "AP", "AP of one seed, 95 %"), ("mask AP50", "mask AP")
    heads = ("data", "detector", "training", "test images", *boxes, *masks, "time")
    rows = [f"| {' | '.join(heads)} |", "|---|---|---|---:|---|---|---|---|---|---|"]
    rows += [f"| {' | '.join(_detector_cells(row))} |" for row, _ in measured.values()]
    documents = [document for _, document in measured.values()]
    conditions = dict.fromkeys(map(tables.measured_on, documents))
    return "\n".join([*rows, "", *conditions])


def _detector_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what was trained and measured: means over the seeds, with their range."""
    runs, figures = row["details"]["runs"], row["details"]["figures"]
    first = runs[0]
    seeds = f"seed {first['seed']}" if len(runs) == 1 else f"{len(runs)} seeds"
    low, high = first["ap_interval"] or (None, None)
    steps = sorted({run["steps"] for run in runs})
    many = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    length = f"{many} updates of {first['batch_size']}"
    return (
        row["name"],
        f"`{first['model']}`, {first['image_px']} px",
        f"`{first['recipe']}`, {length}, {seeds}",
        f"{first['count']:,}",
        *(_mean_and_range(figures[name]) for name in ("ap50", "ap")),
        "–" if low is None else f"{low:.3f} – {high:.3f}",
        *(_mean_and_range(figures[name]) if name in figures else "–" for name in ("mask_ap50", "mask_ap")),
        f"{statistics.fmean(run['wall_s'] for run in runs) / 60:.1f} min",
    )


def _mean_and_range(figure: dict[str, Any]) -> str:
    low, high = figure["range"]
    return f"{figure['mean']:.3f}" + ("" if low == high else f" ({low:.3f} – {high:.3f})")


def exported_table(what: str, table: Callable[[dict[str, Any]], str], folder: Path = RESULTS) -> str:
    """Return the newest result about exported models as Markdown; nothing where there is none.

    Args:
        what: End of the file's name: ``DATE-MACHINE-WHAT.json``.
        table: Makes the table of the document.
        folder: Where the file lies.
    """
    paths = sorted(folder.glob(f"*-{what}.json"))
    return table(json.loads(paths[-1].read_text("utf-8"))) if paths else ""


def _reproduced(*names: str, language: str = "en") -> dict[str, Callable[[], str]]:
    return {f"reproduced {name}": functools.partial(reproduced_table, name, language) for name in names}


# In the order of `residual reproduce`; written out, since the list of experiments takes a second to import.
EXPERIMENT_NAMES = (
    *("complexity", "degradation", "depth", "shortcuts", "arrangements", "preactivation", "warmup"),
    *("responses", "gradients", "lesions", "imagenet"),
)

# page → the marks in it, and the tables that stand there
TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "networks.md": {"zoo": zoo_table},
    "converting.md": {"parity": parity_table},
    "reproducing.md": {"experiments": experiment_table},
    "results.md": {
        "few images": transfer_table,
        "detectors": detectors_table,
        "inference": functools.partial(exported_table, "inference", tables.inference_table),
        "folder": functools.partial(exported_table, "folder", tables.folder_table),
        "exported accuracy": functools.partial(exported_table, "exported-accuracy", tables.accuracy_table),
        "detector speed": functools.partial(exported_table, "detector-speed", tables.detector_speed_table),
        "mask memory": functools.partial(exported_table, "mask-memory", tables.mask_memory_table),
        **_reproduced(*EXPERIMENT_NAMES),
    },
    "training.md": {"recipes": recipe_table, "fields": field_table},
    "tutorial.md": _reproduced("degradation"),
    "zh/tutorial.md": _reproduced("degradation", language="zh"),
}


def updated(name: str, page: str) -> str:
    """Return the page called ``name`` with the tables between their marks written anew."""
    for mark, table in TABLES[name].items():
        begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->\n"
        before, rest = page.split(begin)
        _, after = rest.split(end)
        text = table()
        page = f"{before}{begin}\n{text}\n{end}{after}" if text else f"{before}{begin}{end}{after}"
    return page


if __name__ == "__main__":
    for name in TABLES:
        path = DOCS / name
        path.write_text(updated(name, path.read_text("utf-8")), "utf-8")
