"""The command `facemargin`: one file for each family of commands.

`commands` lists all commands in the order of the help. Commands share `options`, `files`,
`alignment` and `console`. A command imports the packages that it needs when it runs (`opening`).
No other room imports this one, except `__main__`.
"""

from keras_facemargin.cli.commands import app, main
from keras_facemargin.cli.console import sentence

__all__ = ["app", "main", "sentence"]
