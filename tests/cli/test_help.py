"""Every help text has an example that parses."""

import inspect
import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from keras_facemargin import cli
from keras_facemargin.cli import training
from keras_facemargin.cli.training import Head
from keras_facemargin.training.finetune import HEADS, finetune
from keras_facemargin.training.robustify import robustify

ROOT = typer.main.get_command(cli.app)


def commands(command=ROOT, words=("facemargin",)):
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))


COMMANDS = dict(commands())


def examples(command):
    return re.findall(r"`(facemargin [^`]+)`", command.help)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_usage_and_an_example(words):
    result = CliRunner().invoke(cli.app, [*words[1:], "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert "Usage: " in result.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_example_parses_and_is_of_the_command(words):
    (example,) = examples(COMMANDS[words])
    found, rest = (), shlex.split(example)
    while rest and (*found, rest[0]) in COMMANDS:
        found += (rest.pop(0),)
    assert found[: len(words)] == words
    COMMANDS[found].make_context(found[-1], rest)  # raises on what it does not know


def test_the_examples_use_the_folders_of_the_demo():
    from keras_facemargin import demo

    folder = f"facemargin-demo/faces-{demo.PEOPLE}x{demo.IMAGES_EACH}-seed0"
    texts = " ".join(example for each in COMMANDS.values() for example in examples(each))
    assert set(re.findall(r"facemargin-demo/faces[^/ ]*", texts)) == {folder}


@pytest.mark.parametrize(
    ("command", "function", "names"),
    [
        (
            training.finetune,
            finetune,
            ("head", "seed"),
        ),
        (training.robustify, robustify, ("seed",)),
    ],
)
def test_the_command_and_the_function_agree_on_defaults(command, function, names):
    mine, theirs = (inspect.signature(each).parameters for each in (command, function))
    for name in names:
        assert mine[name].default == theirs[name].default


def test_the_command_names_every_head():
    assert list(Head) == list(HEADS)
