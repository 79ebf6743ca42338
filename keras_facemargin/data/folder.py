"""Labelled faces in a folder of identity folders."""

import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

from keras_facemargin.data.faces import Faces, identity_order
from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.data.problems import check_all, check_on_bad
from keras_facemargin.images.alignment_check import warn_unaligned
from keras_facemargin.images.crop import Size
from keras_facemargin.images.image import BadImage, check_face


class FaceFolder(Faces):
    """Aligned face crops in `DIRECTORY/IDENTITY/IMAGE`; every file is checked once.

    Each folder in `directory` is one identity, and each file in it one image of that person, read
    by the rules of `read_face`. Identities are sorted by name (whole numbers by value, then other
    names by code point, so capitals come first) and numbered from 0 in that order; images are
    sorted by name within them. Links are followed. Names that begin with a dot (`.DS_Store`,
    `._0001.jpg`) are ignored.

    Other entries are bad and are reported with their reason: a file that is not a complete image of
    the crop's shape, a file beside the identity folders, a folder inside one, an identity without a
    good image. Every file is decoded to its end when the object is made, on all cores and with a
    progress bar for many files, so that none fails during training. If the faces are clearly off
    the template on average (`alignment_report` of up to 200 of them), there is one warning.

    Args:
        directory: folder of identity folders.
        image_size: height of square crops in pixels, `(height, width)`, or a `Crop`. Images of
            that shape and another size are resized.
        on_bad: `"refuse"` raises one error that counts the bad entries and names up to ten.
            `"skip"` skips them, warns once with the same report and lists them in `skipped`.

    Attributes:
        directory: the folder, a string.
        crop, image_size: see `Faces`.
        paths: list of the image files.
        labels: int32 array `(N,)`, the identity of each image, 0..`num_classes - 1`.
        identities: list of the identities' names; `identities[label]` is the name of a label.
        num_classes: number of identities.
        skipped: list of `BadImage`, each with its `path` and `reason`.

    Raises:
        ValueError: `directory` is not a folder, has no identity folder, has fewer than two
            identities with an image, or has a bad entry and `on_bad` is `"refuse"`.

    Example:

    ```python
    faces = FaceFolder("faces", on_bad="skip")
    train, held_out = faces.split(held_out_identities=100)
    classifier.fit(train.dataset(128, training=True), shuffle=False, epochs=10)
    ```
    """

    paths: list[str]
    identities: list[str]

    def __init__(
        self, directory: FileName, *, image_size: Size = 112, on_bad: str = "refuse"
    ) -> None:
        check_on_bad(on_bad, "refuse", "skip")
        self.directory = os.fspath(directory)
        kept: list[str] = []
        paths: list[str] = []
        labels: list[int] = []
        plain: list[bool] = []
        files, bad = list_files(self.directory)
        listed = list(itertools.chain(*files.values()))
        checks = iter(check_all(lambda index: _check_file(listed[index], image_size), len(listed)))
        for identity, its_paths in files.items():
            good = []
            for path in its_paths:
                check = next(checks)
                if isinstance(check, BadImage):
                    bad.append(check)
                else:
                    good.append(path)
                    plain.append(check)
            if not good:
                folder = os.path.join(self.directory, identity)
                bad.append(BadImage(folder, "the folder of an identity has no good image."))
                continue
            labels += [len(kept)] * len(good)
            paths += good
            kept.append(identity)
        self._set(
            source=self.directory,
            image_size=image_size,
            paths=paths,
            labels=labels,
            identities=kept,
            plain=plain,
            skipped=bad,
        )
        self._report_bad_files(on_bad)
        warn_unaligned(self, self.directory)

    def _entries(self) -> Iterable[str]:
        start = len(os.path.join(self.directory, ""))
        return (f"{path[start:]} {os.stat(path).st_size}" for path in self.paths)

    def _bytes_in_graph(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        import tensorflow as tf

        paths = tf.constant([os.fsencode(path) for path in self.paths])
        return lambda indices: tf.gather(paths, indices), tf.io.read_file


def list_files(directory: str) -> tuple[dict[str, list[str]], list[BadImage]]:
    """Lists a folder of identity folders.

    Args:
        directory: the folder.

    Returns:
        dict from an identity to its files, in order, and a list of the other entries.

    Raises:
        ValueError: it is not a folder, or has no folder in it.
    """
    if not os.path.isdir(directory):
        raise ValueError(f"The source must be a folder of identity folders. Received: {directory}")
    files: dict[str, list[str]] = {}
    bad: list[BadImage] = []
    for entry in sorted(_visible(directory), key=lambda entry: identity_order(entry.name)):
        if not entry.is_dir():
            bad.append(
                BadImage(entry.path, "a file beside the identity folders, not in one of them.")
            )
            continue
        files[entry.name] = []
        for item in _visible(entry.path):
            if item.is_file():
                files[entry.name].append(item.path)
            else:
                kind = "a folder inside" if item.is_dir() else "a broken link or device in"
                bad.append(BadImage(item.path, f"{kind} an identity folder, not an image file."))
    if not files:
        raise ValueError(
            "The images of each person must be in a folder of their own: "
            f"DIRECTORY/IDENTITY/IMAGE. Received: {directory}, which has no folder and "
            f"{len(bad):,} other entries."
        )
    return files, bad


def _visible(directory: str) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )


def _check_file(path: str, size: Size) -> bool | BadImage:
    """Whether a file is plain (see `check_face`), or its fault."""
    try:
        return check_face(path, size)
    except BadImage as error:
        return BadImage(path, error.reason)  # a copy: the traceback keeps the pixels alive
    except OSError as error:
        return BadImage(path, f"it cannot be read: {error.strerror}.")
