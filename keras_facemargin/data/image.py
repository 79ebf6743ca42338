"""One image file -> one aligned face crop, by rules that hold for every reader of the package."""

import io
import os

import numpy as np
from PIL import Image, ImageOps


class BadImage(ValueError):
    """An image that cannot become a face crop.

    Attributes:
        path: the file (or the name given to the bytes), a string.
        reason: what is wrong with it and, where there is one, the way out.
    """

    def __init__(self, path, reason):
        # Both arguments go to ValueError so that the error survives pickling between processes.
        super().__init__(os.fspath(path), reason)
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self):
        return f"{self.path}: {self.reason}"


def read_face(path, size=112):
    """Reads an aligned face crop from a file as `(size, size, 3)` uint8 RGB.

    Any format that Pillow reads is taken, and any kind of pixel becomes RGB 0..255:

    - the EXIF orientation is applied, so the face stands as a viewer shows it;
    - grey and palette images are spread to three channels;
    - transparent pixels are laid over black, the border colour of alignment;
    - CMYK is converted without a colour profile;
    - 16-bit channels keep their high byte (value // 256);
    - of several frames the first is taken.

    A square image of another size is resized with Pillow's antialiased LANCZOS filter. An image
    that is not square is refused: squeezing or cropping it would move the eyes and mouth off the
    places where an embedder expects them.

    Args:
        path: the image file.
        size: side of the crop in pixels.

    Returns:
        A uint8 array of shape `(size, size, 3)`, RGB.

    Raises:
        BadImage: the file is empty, truncated, not an image, not square, or has 32-bit pixels.
        OSError: the file cannot be opened (it is missing, a directory, or not readable).

    Example:

    ```python
    image = read_face("faces/Ada Lovelace/0001.jpg")  # (112, 112, 3) uint8
    ```
    """
    with open(path, "rb") as file:
        return decode_face(file.read(), size, name=path)


def decode_face(encoded, size=112, name="<bytes>"):
    """Decodes the bytes of an image file by the rules of `read_face`.

    Args:
        encoded: the bytes of the file.
        size: side of the crop in pixels.
        name: what an error calls the image.

    Returns:
        A uint8 array of shape `(size, size, 3)`, RGB.

    Raises:
        BadImage: as `read_face`.
    """
    return _to_rgb(_decode(encoded, name), size, name)


def _decode(encoded, name):
    """Bytes -> a fully decoded, square Pillow image, its pixels still as stored."""
    if not encoded:
        raise BadImage(name, "the file is empty (0 bytes).")
    try:
        image = Image.open(io.BytesIO(encoded))
    except Image.UnidentifiedImageError:
        raise BadImage(name, "not an image in any format that Pillow reads.") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on a damaged header.
        raise BadImage(name, f"its header does not decode: {error}") from error
    if image.width != image.height:
        raise BadImage(
            name,
            "an aligned face crop must be square. "
            f"Received: {image.width}x{image.height} (width x height). "
            "Align the photo first (five points to the 112x112 template).",
        )
    try:
        image.load()
    except Exception as error:  # As above, for the damaged body.
        raise BadImage(name, f"it does not decode to the end: {error}") from error
    return image


def _to_rgb(image, size, name):
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow's own conversion to 8 bits clips at 255: nearly every pixel would turn white.
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    elif image.mode in ("I", "F"):
        raise BadImage(
            name, "pixels of 32 bits have no agreed range; save the image with 8 or 16 bits."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.array(image)
