"""Every command in the order of the help, and what becomes of an error."""

import warnings

import typer

from keras_facemargin.cli import data, embedders, faces, training
from keras_facemargin.cli.console import complain, sentence, show_every_name, show_warning
from keras_facemargin.cli.evaluate import all_pairs, images, sets, templates

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,  # opening Keras takes seconds, too long for a press of the tab key
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate = typer.Typer(no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")
fetch = typer.Typer(no_args_is_help=True)
app.add_typer(fetch, name="fetch")


@app.callback()
def _facemargin():
    """Face recognition in Keras 3: load an embedder, fine-tune it, verify, export to mobile.

    Example: `facemargin demo`
    """


@evaluate.callback()
def _evaluate():
    """Run a verification protocol on an embedder.

    Example: `facemargin evaluate lfw --lists DIR --images DIR`
    """


@fetch.callback()
def _fetch():
    """Fetch a public data set, resumed where it stopped and checked by its SHA-256.

    Example: `facemargin fetch lfw lfw`
    """


app.command("demo")(training.demo)
app.command("align")(faces.align)
app.command("embed")(faces.embed)
app.command("verify")(faces.verify)
app.command("finetune")(training.finetune)
app.command("train")(training.train)
app.command("pack")(data.pack)
app.command("check-data")(data.check_data)
app.command("export")(embedders.export)
app.command("calibrate")(embedders.calibrate)
app.command("zoo")(embedders.zoo)

fetch.command("lfw")(data.fetch_lfw)

evaluate.command("lfw")(images.lfw)
evaluate.command("lfw-view1")(images.lfw_view_1)
for name, (about, read) in images.LISTS.items():
    evaluate.command(name, help=images.help_of(name, about))(images.command(name, about, read))
evaluate.command("ytf")(templates.ytf)
evaluate.command("ijba")(templates.ijba)
evaluate.command("ijbb")(templates.ijbb)
evaluate.command("ijbc")(templates.ijbc)
evaluate.command("blufr")(sets.blufr)
evaluate.command("megaface")(sets.megaface)
evaluate.command("trillion-pairs")(sets.trillion_pairs)
evaluate.command("identification")(sets.identification)
evaluate.command("bin")(images.verification_bin)
evaluate.command("pairs")(images.own_pairs)
evaluate.command("all-pairs")(all_pairs.every_pair)


def main():
    """Runs the command; an expected error is one message on standard error and exit code 1."""
    show_every_name()
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            app()
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            complain("[bold red]Error:[/]", sentence(error))
            raise SystemExit(1) from None
