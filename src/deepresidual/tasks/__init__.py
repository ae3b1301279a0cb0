"""Tasks: loss, evaluation, and what people see of it. The training loop knows no labels."""

from deepresidual.tasks.classification import Classification
from deepresidual.tasks.detection import Detection
from deepresidual.tasks.multilabel import Multilabel
from deepresidual.tasks.task import BatchSums, Result, Task, task_of

__all__ = ["BatchSums", "Classification", "Detection", "Multilabel", "Result", "Task", "task_of"]
