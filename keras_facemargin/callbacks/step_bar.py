"""A progress bar over all steps of a training run."""

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class StepBar(keras.callbacks.Callback):
    """Moves a bar on standard error with every step, the running loss and accuracy beside it.

    A context manager, so that the bar ends with whatever ends the run.

    Args:
        steps: of all epochs.
        progress: whether to draw.

    Example:

    >>> with StepBar(steps=100, progress=False) as bar:  # classifier.fit(..., callbacks=[bar])
    ...     pass
    """

    def __init__(self, steps, progress=True):
        super().__init__()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
            disable=not progress,
        )
        self._task = self._bar.add_task("Training", total=steps, state="")

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        state = (
            f"epoch {self._epoch + 1}/{self.params['epochs']}  loss {logs['loss']:.3f}  "
            f"accuracy {logs['accuracy']:.1%}"
        )
        done = self._epoch * (self.params["steps"] or 0) + batch + 1
        self._bar.update(self._task, completed=done, state=state)
