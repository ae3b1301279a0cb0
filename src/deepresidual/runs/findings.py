"""Say in one line of the terminal what was found out about the images of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepresidual.runs.read import RunFiles

_GAINS = {
    "a lot": "more of them would help a lot",
    "a little": "more of them would help a little",
    "none": "more of this kind would not help, as far as can be seen",
}


def findings_in_words(run: RunFiles) -> str:
    """Return the line; empty where nothing was looked for, or nothing can be said."""
    clauses = []
    curve, labels = run.learning_curve, run.label_errors
    if curve and curve["points"]:
        clauses.append(_GAINS.get(curve["gain"], ""))
    if labels and (count := len(labels["rows"]) + len(labels.get("conflicts") or [])):
        clauses.append(f"{count} label{'' if count == 1 else 's'} to look at (report)")
    return "; ".join(clause for clause in clauses if clause)
