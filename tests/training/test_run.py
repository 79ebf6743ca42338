"""The command trains on two workers what one device trains, and ends them together."""

from pathlib import Path

import keras
import numpy as np
import pytest
from processes import finish, start
from training.test_recipe import SIDE, kitchen, steps  # noqa: F401  (kitchen is a fixture)

from keras_facemargin.training.recipe import read_recipe, train

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train.py"


def test_two_workers_go_on_with_what_one_device_began(kitchen):  # noqa: F811
    """The last step has six images. No dropout: its draws are each replica's own."""
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Dense(6)]
    ).save(kitchen / "small.keras")
    recipe = read_recipe(kitchen / "recipe.toml")
    whole = train(recipe, kitchen / "whole", progress=False)

    train(recipe, kitchen / "run", progress=False)
    for newest in sorted((kitchen / "run" / "checkpoints").iterdir())[-1:]:
        newest.unlink()  # back to the one before, within the second epoch
    (run,) = finish(
        start(TOOL, kitchen / "recipe.toml", "--output", kitchen / "run", "--workers", 2)
    )
    code, output, errors = run
    assert code == 0, errors
    assert f"{whole['loss'][1]:.4f}" in output
    ours, theirs = (np.array(steps(kitchen / name), "float64") for name in ("run", "whole"))
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    assert (kitchen / "run" / "history.png").stat().st_size > 5_000


def test_a_worker_that_fails_ends_all_and_says_why(kitchen):  # noqa: F811
    (kitchen / "recipe.toml").write_text("epochs = 2")
    arguments = kitchen / "recipe.toml", "--output", kitchen / "run"
    ((code, _, errors),) = finish(start(TOOL, *arguments, "--workers", 2))
    assert code == 1
    assert "Error: A recipe needs `batch_size`" in errors


@pytest.mark.parametrize("option", [["--devices", "0"], ["--workers", "0"], ["--devices", "two"]])
def test_wrong_numbers_are_refused(tmp_path, option):
    ((code, _, errors),) = finish(start(TOOL, "recipe.toml", "--output", tmp_path, *option))
    assert code == 2
    assert f"{option[0]} must be" in errors and f"Received: {option[1]}" in errors
