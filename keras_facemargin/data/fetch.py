"""Labeled Faces in the Wild from the internet, resumed after an interruption.

Sets that are available on application only are described in `docs/datasets.md`.
"""

import contextlib
import os
import shutil
import tarfile

from keras_facemargin.data.formats.shared_file import FileName
from keras_facemargin.download import FetchError, RemoteFile, fetch
from keras_facemargin.files import exclusive


def _lfw(name: str, copy: int, sha256: str) -> RemoteFile:
    # The authors' host has had no address since January 2025 (pytorch/vision#8888), so the copy
    # comes first; the digest proves that it is the same file.
    authors = f"http://vis-www.cs.umass.edu/lfw/{name}"
    most = 1 << 20 if name.endswith(".txt") else 1 << 29
    urls = f"https://ndownloader.figshare.com/files/{copy}", authors
    return RemoteFile(name, urls, sha256, most)


# The copy and the digests are those that scikit-learn publishes in sklearn/datasets/_lfw.py (a test
# compares them with the installed one). The digests of the three lists are those of the lists that
# this package is tested with; the digests of the archives were not compared with an archive.
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


def fetch_lfw(directory: FileName, *, images: str = "funneled") -> str:
    """Fetches Labeled Faces in the Wild: 13,233 photos of 5,749 people, 250x250, and its lists.

    The download is about 240 MB, and as much again when unpacked. The photos are not aligned to the
    template; use `facemargin align`. The photos come from news pages, and no licence of them was
    found: `docs/datasets.md`.

    **Implementations differ.** Most published figures use the deep-funneled photos, cropped by
    another detector. No source publishes them with a SHA-256; `funneled` is the nearest set.
    torchvision and TensorFlow Datasets use the authors' host, which no longer exists, or a copy.

    Args:
        directory: folder to fill; it is created if it is missing. Existing files are checked and
            not fetched again.
        images: `"funneled"`, or `"original"` for the photos before funneling.

    Returns:
        Path of the folder of photos, a string; `pairs.txt`, `pairsDevTrain.txt` and
        `pairsDevTest.txt` are beside it.

    Raises:
        ValueError: `images` is neither of them.
        FetchError: as `fetch`, or the archive cannot be unpacked.

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


def _unpack(archive: str, folder: str) -> None:
    """Unpacks one folder of an archive, in one step."""
    if not hasattr(tarfile, "data_filter"):
        raise FetchError(
            "Archives are unpacked safely by Python 3.11.4 or later. "
            f"Received: {archive}. Unpack it by hand, or use a newer Python."
        )
    draft = f"{folder}.draft"
    if os.path.islink(draft):
        raise FetchError(
            f"An archive is not unpacked through a link. Received: {draft}. Remove it."
        )
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
        os.replace(os.path.join(draft, os.path.basename(folder)), folder)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise FetchError(
            f"The archive must have the folder {os.path.basename(folder)}. "
            f"Received: {archive}, {error}. The file was not changed."
        ) from error
    except OSError as error:
        raise FetchError(
            f"{archive} could not be unpacked: {error.strerror}. Call again; the archive is not "
            "fetched twice."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft)
