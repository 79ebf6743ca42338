"""Labeled Faces in the Wild from its addresses, resumed after an interruption.

Sets that are available on application only are described in `docs/datasets.md`.
"""

import contextlib
import os
import shutil
import tarfile

from keras_facemargin.download import FetchError, RemoteFile, fetch
from keras_facemargin.files import exclusive


def _lfw(name, copy, sha256):
    # The authors' host has had no address since January 2025 (pytorch/vision#8888), so the copy
    # comes first; the digest makes them equals.
    authors = f"http://vis-www.cs.umass.edu/lfw/{name}"
    most = 1 << 20 if name.endswith(".txt") else 1 << 29
    urls = f"https://ndownloader.figshare.com/files/{copy}", authors
    return RemoteFile(name, urls, sha256, most)


# The copy and the digests are those that scikit-learn publishes in sklearn/datasets/_lfw.py (a test
# compares them with the installed one). The digests of the three lists are those of the lists that
# this package is tested with; the archives' were not compared with an archive.
LFW_ARCHIVES = {
    "funneled": _lfw(
        "lfw-funneled.tgz",
        5976015,
        "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
    ),
    "original": _lfw(
        "lfw.tgz",
        5976018,
        "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
    ),
}
LFW_LISTS = (
    _lfw(
        "pairs.txt",
        5976006,
        "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
    ),
    _lfw(
        "pairsDevTrain.txt",
        5976012,
        "1d454dada7dfeca0e7eab6f65dc4e97a6312d44cf142207be28d688be92aabfa",
    ),
    _lfw(
        "pairsDevTest.txt",
        5976009,
        "7cb06600ea8b2814ac26e946201cdb304296262aad67d046a16a7ec85d0ff87c",
    ),
)
_LFW_FOLDERS = {"funneled": "lfw_funneled", "original": "lfw"}


def fetch_lfw(directory, images="funneled"):
    """Fetches Labeled Faces in the Wild: 13,233 photos of 5,749 people, 250x250, and its lists.

    About 240 MB, and as much again unpacked. The photos are not aligned to the template:
    `facemargin align` does that. No licence of the photographs, which come from news pages, could
    be found: `docs/datasets.md`.

    **Where implementations differ.** Published figures are mostly of the deep-funneled photos cut
    by another detector, which no source with a SHA-256 publishes; `funneled` is the nearest.
    torchvision and TensorFlow Datasets ask the authors' host, which is gone, or a copy.

    Args:
        directory: folder to fill; made if missing. What is in it already is checked and not
            fetched again.
        images: `"funneled"`, or `"original"` for the photos before funneling.

    Returns:
        Path of the folder of photos, a string; `pairs.txt`, `pairsDevTrain.txt` and
        `pairsDevTest.txt` lie beside it.

    Raises:
        ValueError: `images` is neither.
        FetchError: as `fetch`, or the archive does not unpack.

    Example:

    ```python
    photos = fetch_lfw("lfw")
    align_folder(photos, "lfw/aligned", detector="mtcnn")
    ```
    """
    if images not in LFW_ARCHIVES:
        raise ValueError(
            f"`images` must be {' or '.join(map(repr, LFW_ARCHIVES))}. Received: images={images!r}"
        )
    directory = os.fspath(directory)
    os.makedirs(directory, exist_ok=True)
    for each in LFW_LISTS:
        fetch(each, directory)
    photos = os.path.join(directory, _LFW_FOLDERS[images])
    if not os.path.isdir(photos):
        archive = fetch(LFW_ARCHIVES[images], directory)
        with exclusive(photos):
            _unpack(archive, photos)
    return photos


def _unpack(archive, folder):
    """`folder` of an archive, with all that is in it or not at all."""
    if not hasattr(tarfile, "data_filter"):
        raise FetchError(
            f"Unpacking {archive} safely needs Python 3.11.4 or later. Unpack it by hand."
        )
    draft = f"{folder}.draft"
    if os.path.islink(draft):
        raise FetchError(f"Nothing is unpacked through a link. Received: {draft}. Remove it.")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
        os.replace(os.path.join(draft, os.path.basename(folder)), folder)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise FetchError(
            f"An archive with the folder {os.path.basename(folder)} is needed. "
            f"Received: {archive}, {error}. It was left as it is."
        ) from error
    except OSError as error:
        raise FetchError(
            f"{archive} could not be unpacked beside it: {error.strerror}. Call again; nothing is "
            "fetched twice."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft)
