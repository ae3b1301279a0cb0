"""``residual reproduce``: run an experiment of the papers, draw its figure and judge its claims."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tyro

from deepresidual.cli.options import Maybe
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.errors import UnknownNameError
from deepresidual.runtime.duration import duration

__all__ = ["reproduce"]


def reproduce(
    name: Annotated[
        tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help_behavior_hint="")
    ] = None,
    data: Annotated[
        tyro.conf.Positional[str | None], tyro.conf.arg(metavar="DATA", help_behavior_hint="")
    ] = None,
    /,
    *,
    scale: Literal["smoke", "laptop", "paper"] = "laptop",
    out: Maybe[str] = None,
    arms: tuple[str, ...] = (),
    seeds: Maybe[int] = None,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32",
    device: str = "auto",
    workers: Maybe[int] = None,
    jobs: Maybe[int] = None,
    resume: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Run an experiment of the papers: train its networks, draw the figure, judge the claims.

    A claim that fails is a result, too: the exit code says only whether the experiment ran.

    Args:
        name: An experiment. Default: list all.
        data: A data set, as for 'residual train'. The papers' is CIFAR-10 (cifar10:PATH), or ImageNet for
            'imagenet'. Default at scale smoke: digits.
        scale: smoke takes seconds, laptop shows the effect on two cores in under an hour, paper is the exact
            schedule.
        out: The folder. Default: runs/reproduce/NAME-SCALE.
        arms: Names of the networks to train, see --dry-run. Default: all.
        seeds: Runs of each network. Default: as many as the scale has.
        precision: fp32 as in the papers; auto measures whether bf16 is faster here.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: How many load images; does not change the result.
        jobs: Runs at a time, each in a process with its share of the cores. Default: one a core at scale
            laptop on a CPU, else one.
        resume: Go on with the experiment in --out.
        dry_run: Show networks, updates and time, and train nothing.
        json: Print one JSON document.
    """
    from deepresidual.analysis import EXPERIMENT_NAMES
    from deepresidual.data.source import require_exists

    if name is None:
        return _list(json=json)
    if name not in EXPERIMENT_NAMES:
        raise UnknownNameError("experiment", name, EXPERIMENT_NAMES)
    if data is not None:
        require_exists(data)
    from deepresidual.analysis.experiments import chosen_arms, experiment, usual_jobs
    from deepresidual.analysis.experiments import reproduce as run_experiment
    from deepresidual.analysis.experiments.record import NOT_JUDGED, is_judged
    from deepresidual.training.options import TrainOptions

    chosen = experiment(name)
    num_jobs = usual_jobs(scale, device) if jobs is None else jobs
    to_train = chosen_arms(chosen, scale, arms, seeds)
    if dry_run:
        return _show(chosen, to_train, scale, data, device, precision, num_jobs, json=json)
    result = run_experiment(
        chosen,
        data,
        scale=scale,
        out=out if out is not None else f"runs/reproduce/{name}-{scale}",
        arms=to_train,
        options=TrainOptions(device=device, num_workers=workers, precision=precision),
        num_jobs=num_jobs,
        resume=resume,
    )
    if json:
        print_json({"out": str(result.path), **result.document})
        return result.exit_code
    if result.exit_code:
        print_line(f"interrupted; all is saved. Go on with the same command and --resume --out {result.path}")
    judged = is_judged(result.document)
    print_table(
        ("verdict", "claim", "measured", "published", "tolerance"),
        [
            [
                row["verdict"] if judged else "not judged",
                *(row[key] for key in ("claim", "measured", "published", "tolerance")),
            ]
            for row in result.document["verdicts"]
        ],
    )
    if not judged:
        print_line(f"{NOT_JUDGED}. --scale laptop does.")
    for figure in result.document["figures"]:
        print_line(f"figure  {result.path / figure}.png")
    print_line(f"table   {result.path / 'table.md'}")
    print_line(f"all     {result.path / 'results.json'}")
    return result.exit_code


def _list(*, json: bool) -> int:
    from deepresidual.analysis.experiments import EXPERIMENTS, SCALES

    if json:
        rows = [
            {
                "name": one.name,
                "claim": one.claim,
                "source": one.source,
                "needs": one.needs,
                "arms": {scale: [arm.name for arm in one.arms(scale)] for scale in SCALES},
            }
            for one in EXPERIMENTS
        ]
        print_json({"experiments": rows})
        return 0
    print_table(
        ("experiment", "claim", "source", "data"),
        [(one.name, one.claim, one.source, one.needs) for one in EXPERIMENTS],
    )
    return 0


def _show(
    chosen: Any,
    arms: Any,
    scale: Any,
    data: str | None,
    device: str,
    precision: Any,
    num_jobs: int,
    *,
    json: bool,
) -> int:
    from deepresidual.analysis.experiments.estimate import elapsed_seconds, estimate

    estimates = estimate(chosen, arms, scale, data, device=device, precision=precision, num_jobs=num_jobs)
    rows = [one.to_dict() for one in estimates]
    total = elapsed_seconds(estimates, num_jobs)
    if json:
        document = {
            "experiment": chosen.name,
            "scale": scale,
            "arms": rows,
            "jobs": num_jobs,
            "seconds": total,
        }
        print_json(document)
        return 0
    print_line(f"{chosen.name}, {scale}: {chosen.claim}")
    print_table(
        ("arm", "network", ">layers", ">parameters", ">seeds", ">updates", ">time"),
        [
            (
                row["name"],
                row["label"],
                f"{row['layers']:,}",
                f"{row['parameters']:,}",
                str(row["seeds"]),
                "–" if row["steps"] is None else f"{row['steps']:,}",
                _time(row["seconds"]),
            )
            for row in rows
        ],
    )
    at_a_time = f", {num_jobs} runs at a time" if num_jobs > 1 else ""
    print_line(f"time in all, training alone{at_a_time}: {_time(total)}")
    return 0


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)
