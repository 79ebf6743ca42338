"""Progress over all steps of a training run."""

import time

import keras
from rich.console import Console

from keras_facemargin.progress import progress_bar

_SECONDS = 30  # between two lines outside of a terminal


class StepBar(keras.callbacks.Callback):
    """Shows loss, accuracy and the remaining time on standard error.

    On a terminal it is a bar. Elsewhere, such as in the log file of a cluster, it is a line at the
    end of each epoch, with all figures of the epoch, and at most one line every 30 seconds between.

    It is a context manager: the bar ends with the run, also after an error.

    Args:
        steps: steps of all epochs.
        progress: whether to show anything.

    Example:

    >>> with StepBar(steps=100, progress=False) as bar:  # classifier.fit(..., callbacks=[bar])
    ...     pass
    """

    def __init__(self, steps, progress=True):
        super().__init__()
        console = Console(stderr=True)
        has_bar = console.is_terminal or console.is_jupyter
        self._console = console
        self._steps = steps
        self._lines = progress and not has_bar
        self._bar = progress_bar("steps", progress and has_bar)
        self._task = self._bar.add_task("Training", total=steps)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def on_train_begin(self, logs=None):
        self._first = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self._first is None:  # a resumed run starts later
            self._first = self._done(batch)
            self._start = self._last = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self._now = self._done(batch + 1)
        if self._lines:
            if time.monotonic() - self._last >= _SECONDS:
                self._print(logs)
            return
        state = f"epoch {self._epoch + 1}/{self.params['epochs']}  {_figures(logs)}"
        self._bar.update(self._task, completed=self._now, description=state)

    def on_epoch_end(self, epoch, logs=None):
        if self._lines:
            self._print(logs)

    def _done(self, batch):
        return self._epoch * (self.params["steps"] or 0) + batch

    def _print(self, logs):
        self._last = time.monotonic()
        self._console.print(
            f"epoch {self._epoch + 1}/{self.params['epochs']}  step {self._now:,}/{self._steps:,}  "
            f"{_figures(logs)}  {self._remaining()} remaining",
            highlight=False,
            soft_wrap=True,
        )

    def _remaining(self):
        share = (self._steps - self._now) / max(1, self._now - self._first)
        seconds = max(0, round(share * (self._last - self._start)))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _figures(logs):
    """The figures of a step or an epoch as text; losses are numbers, the others percentages."""
    return "  ".join(
        f"{name} {value:.3f}" if "loss" in name else f"{name} {value:.1%}"
        for name, value in sorted(logs.items(), key=lambda item: item[0] != "loss")
    )
