"""Images to embeddings: threads read the files while the model runs."""

import collections
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.arrays import embedding_rows, real_numbers
from keras_facemargin.images.alignment_check import doubt, larger
from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import read_face
from keras_facemargin.progress import progress_bar

# A Keras model, or any function of images (B, H, W, 3) to embeddings (B, D).
Embedder = Callable[..., Any]

# Decoding releases the GIL and costs far less than any embedder, so a few threads are enough.
READERS = 4
# Batches that are read in advance.
READ_AHEAD = 2


def embed(
    embedder: Embedder,
    paths_or_images: Any,
    *,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Embeds image files or images.

    With `flip` the embeddings of the image and of its mirror image are concatenated without
    normalisation, so a cosine weights the two by their lengths, as SphereFace and CosFace do.
    Implementations differ: InsightFace adds the two.

    Every batch has one shape (the last is padded), so the model is traced once.

    Files of another size than the embedder's crop are resized. If larger ones do not look like
    aligned crops (`keras_facemargin.images.alignment_report`), there is a warning: embeddings of
    photos mean little.

    Args:
        embedder: a Keras model, or any callable, from float32 ``(B, H, W, 3)``, RGB 0..255, to
            ``(B, D)``.
        paths_or_images: sequence of image files or images in a container, read with
            `keras_facemargin.images.read_face` at the embedder's input size (112 if it has none),
            or an array ``(N, H, W, 3)``, RGB 0..255, of any number type.
        flip: whether to append the mirror image's embedding.
        batch_size: images per call of the embedder; fewer if there are fewer images.
        progress: whether to draw a progress bar on standard error.

    Returns:
        float32 ``(N, D)``, or ``(N, 2 * D)`` with `flip`; not normalised, in the order of the
        images.

    Raises:
        ValueError: if no image is given, an array is not of that shape or range, a file is
            not a face crop, `batch_size` is less than 1, or the embedder does not give finite
            embeddings ``(B, D)`` (naming the file or row).
        OSError: if a file cannot be opened.

    Example:
        >>> def brightness(images):
        ...     return images.mean(axis=(1, 2))
        >>> images = np.full((3, 112, 112, 3), 200, dtype="uint8")
        >>> embed(brightness, images, progress=False).shape
        (3, 6)
    """
    return embed_shown(
        embedder, paths_or_images, None, flip=flip, batch_size=batch_size, progress=progress
    )


def embed_shown(
    embedder: Embedder,
    paths_or_images: Any,
    show: Callable[[npt.NDArray[Any]], None] | None,
    *,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """`embed`, which also shows the images to a function, so that they are read once.

    Args:
        show: is called with each batch ``(B, H, W, 3)`` in order, as it was read.
        embedder, paths_or_images, flip, batch_size, progress: as `embed`.
    """
    paths_or_images = _sequence(paths_or_images)
    count = len(paths_or_images)
    if count == 0:
        raise ValueError("`embed` needs at least one image. Received: none.")
    if batch_size != int(batch_size) or batch_size < 1:
        raise ValueError(
            f"`batch_size` must be a whole number of at least 1. Received: batch_size={batch_size}."
        )
    batch_size = min(int(batch_size), count)
    if isinstance(paths_or_images, np.ndarray) and paths_or_images.ndim != 1:
        _check_pixels(paths_or_images)
        batches = _slices(paths_or_images, batch_size)
    else:
        crop = Crop.of_embedder(embedder)
        note_photos(paths_or_images, crop)
        batches = _read(paths_or_images, batch_size, crop)
    # A Keras model's inference call is compiled.
    predict = getattr(embedder, "predict_on_batch", embedder)

    embeddings: npt.NDArray[np.float32] | None = None
    done = 0
    with progress_bar("images", progress) as bar:
        task = bar.add_task("Embedding", total=count)
        for batch in batches:
            if show is not None:
                show(batch)
            rows = _embed_batch(predict, batch.astype("float32"), batch_size, flip)
            _check_finite(rows, paths_or_images, done)
            if embeddings is None:
                embeddings = np.empty((count, rows.shape[1]), dtype="float32")
            if rows.shape[1] != embeddings.shape[1]:
                raise ValueError(
                    "The embedder must give embeddings of one width. Received: widths "
                    f"{embeddings.shape[1]} and {rows.shape[1]}."
                )
            embeddings[done : done + len(rows)] = rows
            done += len(rows)
            bar.advance(task, len(rows))
    assert embeddings is not None  # there is at least one batch
    return embeddings


def note_photos(paths: Sequence[Any], crop: Crop) -> None:
    """Warns if larger images do not look like aligned crops; `embed` calls it for files.

    Args:
        paths: as `embed` takes them.
        crop: the crop that they are read at.
    """
    photos = larger(paths, crop)
    reason = doubt([path for path, *_ in photos], crop) if photos else None
    if reason is not None:
        path, width, height = photos[0]
        warnings.warn(
            f"Images are resized to {crop} and do not look like aligned crops, for example "
            f"{path} ({height}x{width}): {reason} Their embeddings mean little. Make crops of "
            "photos with `facemargin align`.",
            stacklevel=4,
        )


def _embed_batch(
    predict: Embedder, images: npt.NDArray[Any], batch_size: int, flip: bool
) -> npt.NDArray[Any]:
    count = len(images)
    if count < batch_size:
        padding = np.zeros((batch_size - count, *images.shape[1:]), dtype="float32")
        images = np.concatenate([images, padding])
    views = [images, np.ascontiguousarray(images[:, :, ::-1])] if flip else [images]
    return np.concatenate([_rows(predict(view), batch_size)[:count] for view in views], axis=1)


def _rows(output: Any, count: int) -> npt.NDArray[Any]:
    """The output of the embedder, checked: an embedding for each image."""
    rule = f"The embedder must give embeddings of shape (B, D), here B = {count}."
    if isinstance(output, dict | list | tuple):
        raise ValueError(f"{rule} Received: {type(output).__name__} of {len(output)}.")
    output = np.asarray(output)
    if output.ndim != 2 or len(output) != count:
        raise ValueError(f"{rule} Received: shape {output.shape}.")
    return embedding_rows(output, "the embedder's output")


def _sequence(paths_or_images: Any) -> Any:
    """The argument of `embed` as a list of files or an array."""
    if isinstance(paths_or_images, str | os.PathLike):
        raise ValueError(
            "`paths_or_images` must be a sequence of image files or an array of images. Received: "
            f"one file, {paths_or_images}. Put it in a list."
        )
    if hasattr(paths_or_images, "__array__"):  # a tensor, too
        return np.asarray(paths_or_images)
    if len(paths_or_images) and isinstance(paths_or_images[0], np.ndarray):
        raise ValueError(
            "`paths_or_images` must be image files or one array of images. Received: a "
            f"{type(paths_or_images).__name__} of arrays. Pass np.stack(images)."
        )
    return paths_or_images


def _slices(images: npt.NDArray[Any], batch_size: int) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(images), batch_size):
        yield images[start : start + batch_size]


def _read(paths: Sequence[Any], batch_size: int, crop: Crop) -> Iterator[npt.NDArray[Any]]:
    starts = range(0, len(paths), batch_size)
    pending: collections.deque[list[Future[npt.NDArray[Any]]]] = collections.deque()
    with ThreadPoolExecutor(READERS) as pool:
        for start in starts:
            batch = paths[start : start + batch_size]
            pending.append([pool.submit(read_face, path, crop) for path in batch])
            if len(pending) > READ_AHEAD:
                yield np.stack([face.result() for face in pending.popleft()])
        while pending:
            yield np.stack([face.result() for face in pending.popleft()])


def _check_pixels(images: npt.NDArray[Any]) -> None:
    rule = "Images must be of shape (N, H, W, 3), RGB 0..255."
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"{rule} Received: shape {images.shape}.")
    low, high = real_numbers(images, "paths_or_images").min(), images.max()
    if not (low >= 0 and high <= 255):
        raise ValueError(f"{rule} Received: values from {low} to {high}.")
    if 0 < high <= 1:
        raise ValueError(
            f"{rule} Received: values from {low} to {high}, which look scaled to 0..1. Multiply "
            "them by 255; preprocessing is part of the embedder."
        )


def _check_finite(rows: npt.NDArray[Any], paths_or_images: Any, offset: int) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        index = offset + int(bad[0])
        item = paths_or_images[index]
        name = f"image {index}" if isinstance(item, np.ndarray) else str(item)
        raise ValueError(
            f"The embedder gave an embedding that is not finite. Received: {rows[bad[0]]} for "
            f"{name}. Check the embedder's weights."
        )
