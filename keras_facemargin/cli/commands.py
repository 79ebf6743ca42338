"""All commands in the order of the help; `main` runs them and prints errors."""

import sys
import traceback
import warnings
from typing import Annotated

import typer

import keras_facemargin
from keras_facemargin.cli import bench, bundle, data, embedders, faces, gallery, training, zoo
from keras_facemargin.cli.console import (
    Answer,
    complain,
    say,
    sentence,
    show_every_name,
    show_warning,
)
from keras_facemargin.cli.evaluate import all_pairs, degraded, images, sets, templates
from keras_facemargin.cli.opening import with_keras

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,  # its options would be first in the help
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate = typer.Typer(no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")
zoo_app = typer.Typer(invoke_without_command=True)
app.add_typer(zoo_app, name="zoo")
gallery_app = typer.Typer(no_args_is_help=True)
app.add_typer(gallery_app, name="gallery")
bundle_app = typer.Typer(no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")
fetch = typer.Typer(no_args_is_help=True)
app.add_typer(fetch, name="fetch")


def _print_version(asked: bool) -> None:
    if asked:
        say(f"facemargin {keras_facemargin.__version__}")
        raise typer.Exit


@app.callback()
def _facemargin(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Face recognition in Keras 3: load an embedder, fine-tune it, verify, export to mobile.

    Example: `facemargin demo`
    """


@evaluate.callback()
def _evaluate() -> None:
    """Evaluate embedders by a protocol: verification, identification or your own pairs.

    Example: `facemargin evaluate lfw --lists DIR --images DIR`
    """


@gallery_app.callback()
def _gallery() -> None:
    """Enrol people in a gallery, list and remove them, or change its embedder.

    Example: `facemargin gallery add staff.gallery "Ada Lovelace" ada1.jpg ada2.jpg`
    """


@bundle_app.callback()
def _bundle() -> None:
    """Verify a bundle of `export --bundle`, and the program of the app that uses it.

    Example: `facemargin bundle check bundle`
    """


@fetch.callback()
def _fetch() -> None:
    """Download a public data set. Resumes after an interruption and checks the SHA-256 digest.

    Example: `facemargin fetch lfw lfw`
    """


app.command("demo")(with_keras(training.demo))
app.command("align")(faces.align)
app.command("bench")(bench.bench)
app.command("embed")(faces.embed)
app.command("verify")(faces.verify)
app.command("identify")(gallery.identify)
app.command("finetune")(with_keras(training.finetune))
app.command("robustify")(with_keras(training.robustify))
app.command("train")(with_keras(training.train))
app.command("pack")(data.pack)
app.command("check-data")(data.check_data)
app.command("export")(with_keras(embedders.export))
app.command("calibrate")(embedders.calibrate)

zoo_app.callback()(zoo.zoo)
zoo_app.command("list")(zoo.list_cards)
zoo_app.command("show")(zoo.show)
zoo_app.command("fetch")(zoo.fetch)
zoo_app.command("verify")(with_keras(zoo.verify))
zoo_app.command("publish")(zoo.publish)

bundle_app.command("check")(bundle.check)

fetch.command("lfw")(data.fetch_lfw)

gallery_app.command("add")(gallery.add)
gallery_app.command("remove")(gallery.remove)
gallery_app.command("list")(gallery.list_people)
gallery_app.command("rebuild")(gallery.rebuild)
gallery_app.command("migrate")(gallery.migrate)

evaluate.command("lfw")(images.lfw)
evaluate.command("lfw-view1")(images.lfw_view_1)
for name, (about, read) in images.LISTS.items():
    run = images.command(name, about, read)
    evaluate.command(name, help=images.help_of(name, about))(run)
evaluate.command("ytf")(with_keras(templates.ytf))
evaluate.command("ijba")(with_keras(templates.ijba))
evaluate.command("ijbb")(with_keras(templates.ijbb))
evaluate.command("ijbc")(with_keras(templates.ijbc))
evaluate.command("blufr")(sets.blufr)
evaluate.command("megaface")(with_keras(sets.megaface))
evaluate.command("trillion-pairs")(sets.trillion_pairs)
evaluate.command("identification")(with_keras(sets.identification))
evaluate.command("bin")(images.verification_bin)
evaluate.command("pairs")(images.own_pairs)
evaluate.command("all-pairs")(all_pairs.every_pair)
evaluate.command("degraded")(degraded.degraded)


# Commands whose exit codes 0, 1 and 2 are answers. An error must not look like one of them, so its
# code is that of sysexits.h.
ANSWERING = ("verify", "identify")
USAGE, SOFTWARE = 64, 70


def main() -> None:
    """Runs the command. An expected error prints one message on standard error and exits with 1.

    A command that answers by its exit code exits with 64 after any error or interruption, also
    after an unknown option, for which the others exit with 2, and with 70 after a traceback.
    """
    show_every_name()
    answers = sys.argv[1:2] and sys.argv[1] in ANSWERING
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        # Phones take photos of 108 megapixels; `images` has a limit of its own.
        warnings.filterwarnings("ignore", r"Image size \(\d+ pixels\) exceeds limit")
        try:
            app()
        except Answer:
            raise
        except SystemExit as stop:
            raise SystemExit(USAGE if answers and stop.code else stop.code) from None
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            complain("[bold red]Error:[/]", sentence(error))
            raise SystemExit(USAGE if answers else 1) from None
        except Exception:
            if not answers:
                raise
            traceback.print_exc()
            raise SystemExit(SOFTWARE) from None
