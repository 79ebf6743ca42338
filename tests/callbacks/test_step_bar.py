"""Progress where standard error is not a terminal: a line per epoch, few lines between."""

import pytest

from keras_facemargin.callbacks import StepBar, step_bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only by hand."""
    now = [0.0]
    monkeypatch.setattr(step_bar.time, "monotonic", lambda: now[0])
    return now


def drive(bar, clock, epochs, steps, seconds, first=(0, 0)):
    bar.set_params({"epochs": epochs, "steps": steps})
    bar.on_train_begin()
    for epoch in range(first[0], epochs):
        bar.on_epoch_begin(epoch)
        for step in range(first[1] if epoch == first[0] else 0, steps):
            bar.on_train_batch_begin(step)
            clock[0] += seconds
            bar.on_train_batch_end(step, {"accuracy": 0.125, "loss": 3.14159})
        bar.on_epoch_end(epoch, {"accuracy": 0.5, "loss": 2.0, "pairs_eer": 0.25})


def test_an_epoch_ends_with_a_line_of_all_figures(clock, capsys):
    with StepBar(6) as bar:
        drive(bar, clock, epochs=2, steps=3, seconds=2)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/2  step 3/6  loss 2.000  accuracy 50.0%  pairs_eer 25.0%  0:00:06 remaining",
        "epoch 2/2  step 6/6  loss 2.000  accuracy 50.0%  pairs_eer 25.0%  0:00:00 remaining",
    ]


def test_between_epochs_a_line_comes_at_most_every_thirty_seconds(clock, capsys):
    with StepBar(100) as bar:
        drive(bar, clock, epochs=1, steps=100, seconds=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in lines] == [f"step {n}/100" for n in (30, 60, 90, 100)]
    assert lines[0].endswith("loss 3.142  accuracy 12.5%  0:01:10 remaining")


def test_a_resumed_run_does_not_count_the_steps_before(clock, capsys):
    with StepBar(20_000) as bar:
        drive(bar, clock, epochs=2, steps=10_000, seconds=1, first=(1, 6_400))
    first = capsys.readouterr().err.splitlines()[0]
    assert "step 16,430/20,000" in first and first.endswith("0:59:30 remaining")


def test_without_progress_it_is_silent(clock, capsys):
    with StepBar(6, progress=False) as bar:
        drive(bar, clock, epochs=2, steps=3, seconds=40)
    assert capsys.readouterr().err == ""
