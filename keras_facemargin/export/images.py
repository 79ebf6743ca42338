"""The face crops that an exported file is tested on."""

from typing import Any

import numpy as np
import numpy.typing as npt


def check_images(
    images: Any, input_shape: tuple[int, ...], name: str = "images"
) -> npt.NDArray[Any]:
    """Checks the images to test a file on, or draws some.

    Args:
        images: uint8 or float array `(N, H, W, 3)`, RGB 0..255, aligned as in training; None for
            64 synthetic faces (16 people who do not exist).
        input_shape: `(H, W, 3)` of the embedder.
        name: of the argument, for the errors.

    Returns:
        The images, uint8 or float, `(N, H, W, 3)`.

    Raises:
        ValueError: another shape, dtype or range.
    """
    shape = f"(N, {', '.join(str(side) for side in input_shape)})"
    if images is None:
        from keras_facemargin.images import Crop, synthesize_faces

        crop = Crop.of(tuple(input_shape[:2]))
        if crop.template is None:
            raise ValueError(
                f"`images` must be passed for this embedder, {shape}: synthetic faces are drawn "
                f"only for crops of a known template. Received: images=None and a crop of {crop}. "
                "Read crops of that size with read_face."
            )
        images, _ = synthesize_faces(num_identities=16, images_per_identity=4, seed=0, size=crop)
    try:
        pixels: npt.NDArray[Any] = np.asarray(images)
    except ValueError:  # rows of unequal length
        raise ValueError(
            f"{name} must be one array of the shape {shape}. Received: a "
            f"{type(images).__name__} of arrays of several shapes. Resize them to one size."
        ) from None
    if pixels.ndim != 4 or pixels.shape[1:] != tuple(input_shape) or not len(pixels):
        grey = pixels.shape[1:3] == tuple(input_shape[:2]) and pixels.shape[3:] in ((), (1,))
        raise ValueError(
            f"{name} must have the shape {shape} of this embedder's input. "
            f"Received: shape {pixels.shape}. "
            + (
                "Repeat the one channel of grey images three times, as read_face does."
                if grey
                else "Read crops of that size with read_face."
            )
        )
    if pixels.dtype == np.uint8:
        if pixels.max() <= 1:
            raise ValueError(
                f"{name} must be RGB 0..255. Received: uint8 values from 0 to "
                f"{pixels.max()}. Scale them before the cast: (images * 255).astype('uint8')."
            )
        return pixels
    if pixels.dtype.kind != "f":
        raise ValueError(
            f"{name} must be uint8 or float, RGB 0..255. "
            f"Received: dtype {pixels.dtype}. Convert them: images.astype('uint8')."
        )
    low, high = float(pixels.min()), float(pixels.max())  # NaN compares false below.
    if not (low >= 0.0 and 1.0 < high <= 255.0):
        raise ValueError(
            f"{name} of floats must be RGB 0..255: the embedder contains its preprocessing. "
            f"Received: values from {low:g} to {high:g}. Undo the scaling, for example "
            "images * 255 for values in 0..1, (images + 1) * 127.5 for -1..1."
        )
    return pixels
