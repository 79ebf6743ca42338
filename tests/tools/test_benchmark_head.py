import argparse
import io
import json
import sys

import benchmark_head
import fit_cost_model
import keras
import numpy as np
import pytest

ON = {"tensorflow": "tensorflow graph", "jax": "jax"}.get(keras.backend.backend())
pytestmark = pytest.mark.filterwarnings("ignore:.*should be at:UserWarning")


@pytest.mark.parametrize(
    "way", ["Dense", "CosFace kept", "CosFace blockwise", "ArcFace", "fit", "fit sampled"]
)
def test_every_way_steps_and_answers(way, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("step\nstep\npeak\n"))
    benchmark_head.serve(way, ON, 8, 300, 4)
    ready, *steps, peak = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready == {"ready": True}
    assert len(steps) == 2 and all(step["seconds"] > 0 for step in steps)
    assert isinstance(peak["peak"], int)  # of this process, which others filled: may fall


def test_every_aim_of_the_table_has_its_row():
    cases = ["dense", "blockwise", "million", "sampled", "peers"]
    rows = list(benchmark_head.rows(argparse.Namespace(cases=cases)))
    assert [sum(row[0] == case for row in rows) for case in cases] == [6, 3, 2, 1, 12]


def test_a_way_that_cannot_run_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(SystemExit, match=r"pytorch-metric-learning.*--peer-python"):
        benchmark_head.torch_peer("CosFace")


def test_the_cost_model_finds_what_the_steps_were_made_of():
    points = [*fit_cost_model.FITTED, *fit_cost_model.HELD_OUT]
    true = np.array([2e-11, 3e-10, 1e-9, 0.004])
    seconds = fit_cost_model.terms(points) @ true
    fitted = fit_cost_model.fit_model(points[:-2], seconds[:-2])
    np.testing.assert_allclose(fit_cost_model.terms(points) @ fitted, seconds, rtol=1e-6)
