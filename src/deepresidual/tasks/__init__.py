"""Tasks: loss, evaluation, and what people see of it. The training loop knows no labels."""

from deepresidual.tasks.classification import Classification
from deepresidual.tasks.task import BatchSums, Result, Task, task_of

__all__ = ["BatchSums", "Classification", "Result", "Task", "task_of"]
