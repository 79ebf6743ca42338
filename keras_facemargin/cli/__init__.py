"""The command `facemargin`, a file for each family of commands; each opens its room when asked.

`commands` lists every command in the order of the help. `options`, `files`, `alignment` and
`console` are what several share. Nothing imports this room.
"""

from keras_facemargin.cli.commands import app, main
from keras_facemargin.cli.console import sentence

__all__ = ["app", "main", "sentence"]
