"""One image file -> one aligned face crop or one photo, by rules that hold for every reader."""

import functools
import io
import os
import re

import numpy as np
from PIL import ExifTags, Image, ImageOps

# Pillow's names of the formats that are read. It has thirty more parsers, which are not needed for
# faces and a hostile file could choose.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
_NAMED_FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF, PPM or AVIF"
_HEIC_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
# Pillow's names of the pixels that have one obvious way to RGB 0..255.
_MODES = frozenset(
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I;16B"]
)
# A JPEG marker that may not stand inside a scan: neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
# Pixels a side. A crop is never so large; a damaged header may say anything, and would be believed.
_LARGEST = 4096
_LARGEST_PHOTO = 16384
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class BadImage(ValueError):
    """An image that cannot become a face crop.

    Attributes:
        path: the file (or the name given to the bytes), a string.
        reason: what is wrong with it and, where there is one, the way out.
    """

    def __init__(self, path, reason):
        # Both arguments go to ValueError so that the error survives pickling between processes.
        self.path = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
        super().__init__(self.path, reason)
        self.reason = reason

    def __str__(self):
        return f"{self.path}: {self.reason}"


def read_face(path, size=112):
    """Reads an aligned face crop from a file as `(size, size, 3)` uint8 RGB.

    JPEG, PNG, WebP, BMP, GIF, TIFF, PPM (PGM) and AVIF are read, and HEIC where the package
    pillow-heif is installed. Any kind of pixel becomes RGB 0..255:

    - the EXIF orientation is applied, so the face stands as a viewer shows it;
    - grey and palette images are spread to three channels;
    - transparent pixels are laid over black, the border colour of alignment;
    - CMYK is converted without a colour profile;
    - 16-bit channels keep their high byte (value // 256);
    - of several frames the first is taken.

    A square image of another size is resized with Pillow's antialiased LANCZOS filter. An image
    that is not square is refused: squeezing or cropping it would move the eyes and mouth off the
    places where an embedder expects them. So is one of more than 4096 pixels a side.

    Args:
        path: the image file, or an image in a container: anything with `read_bytes()`, as
            `pathlib.Path` and `zipfile.Path` have it and what `FaceRecords` and `PairsBin` list.
        size: side of the crop in pixels.

    Returns:
        A uint8 array of shape `(size, size, 3)`, RGB.

    Raises:
        BadImage: the file is empty, truncated, not an image, not square, too large, or of a
            kind of pixel without an agreed way to RGB (32-bit, Lab).
        OSError: the file cannot be opened (it is missing, a directory, or not readable).

    Example:

    ```python
    image = read_face("faces/Ada Lovelace/0001.jpg")  # (112, 112, 3) uint8
    ```
    """
    return decode_face(read_bytes(path), size, name=path)


def read_bytes(path):
    """The bytes of an image file, or of an image in a container (see `read_face`)."""
    if hasattr(path, "read_bytes"):
        return path.read_bytes()
    with open(path, "rb") as file:
        return file.read()


def read_photo(path):
    """Reads a photo of any shape as `(H, W, 3)` uint8 RGB, to find and align the faces in it.

    The rules are those of `read_face`, but that a photo need not be square, is not resized, and has
    up to 16,384 pixels a side. The EXIF orientation is applied: points on the photo (`align_face`)
    count on the picture as a viewer shows it, not on the pixels as stored.

    Args:
        path: as `read_face`.

    Returns:
        A uint8 array of shape `(H, W, 3)`, RGB.

    Raises:
        BadImage: the file is empty, truncated, not an image, too large, or of a kind of pixel
            without an agreed way to RGB.
        OSError: as `read_face`.

    Example:

    ```python
    photo = read_photo("holiday/IMG_0001.jpg")  # (3024, 4032, 3) uint8
    ```
    """
    return np.array(_convert(_decode(read_bytes(path), path, photo=True), path))


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


def check_face(path, size=112):
    """Decodes an image to its last pixel and tells which decoder may read it from now on.

    Args:
        path: as `read_face`.
        size: side of the crop in pixels.

    Returns:
        True if the file is plain: TensorFlow's decoder for JPEG and PNG accepts it and gives
        exactly the pixels of `read_face`. False if only `read_face` does.

    Raises:
        BadImage, OSError: as `read_face`.
    """
    return check_encoded(read_bytes(path), size, path)


def check_encoded(encoded, size=112, name="<bytes>"):
    """Checks the bytes of an image file as `check_face` does.

    Args:
        encoded, size, name: as `decode_face`.

    Returns:
        bool, as `check_face`.

    Raises:
        BadImage: as `read_face`.
    """
    image = _decode(encoded, name)
    _to_rgb(image, size, name)
    return (
        image.size == (size, size)
        and image.mode in ("RGB", "L")
        and not image.has_transparency_data
        and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        and _is_intact(encoded, image.format)
    )


def read_size(path):
    """Width and height in pixels of an image, as stored, from its header.

    Args:
        path: as `read_face`.

    Returns:
        Two integers.

    Raises:
        BadImage: the file is empty or not an image.
        OSError: as `read_face`.
    """
    return _open(read_bytes(path), path).size


def open_image(file):
    """Opens an image with Pillow, which reads its header with the parsers of `FORMATS` alone.

    Args:
        file: a path or a binary stream.

    Returns:
        A Pillow image, not decoded yet.

    Raises:
        PIL.UnidentifiedImageError: the file is in none of these formats.
        Exception: nearly anything, on a damaged header.
    """
    return Image.open(file, formats=_known_formats())


@functools.cache
def _known_formats():
    Image.init()
    return tuple(each for each in FORMATS if each in Image.OPEN)  # Pillow 11.0 has no AVIF


def _open(encoded, name):
    """Bytes -> a Pillow image, not decoded yet."""
    if not encoded:
        raise BadImage(name, "the file is empty (0 bytes).")
    try:
        return open_image(io.BytesIO(encoded))
    except Image.UnidentifiedImageError:
        if encoded[4:8] == b"ftyp" and encoded[8:12] in _HEIC_BRANDS:
            return _open_heic(encoded, name)
        raise BadImage(name, f"not an image in {_NAMED_FORMATS}.") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on a damaged header.
        raise BadImage(name, f"its header does not decode: {error}") from error


def _open_heic(encoded, name):
    try:
        import pillow_heif
    except ImportError:
        raise BadImage(
            name,
            "a HEIC photo, which is read with the package pillow-heif: pip install pillow-heif. Or "
            "save it as JPEG.",
        ) from None
    pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(encoded), formats=["HEIF"])
    except Exception as error:  # As above.
        raise BadImage(name, "a HEIC photo whose header does not decode.") from error


def _decode(encoded, name, photo=False):
    """Bytes -> a fully decoded Pillow image, its pixels still as stored; square if no photo."""
    image = _open(encoded, name)
    if image.width != image.height and not photo:
        raise BadImage(
            name,
            "an aligned face crop must be square. "
            f"Received: {image.width}x{image.height} (width x height). "
            "Align the photo first (five points to the 112x112 template): facemargin align.",
        )
    what, largest = ("photo", _LARGEST_PHOTO) if photo else ("face crop", _LARGEST)
    if max(image.size) > largest:
        raise BadImage(
            name,
            f"a {what} has at most {largest:,} pixels a side. Received: {max(image.size):,}. "
            "Shrink it, or repair its header.",
        )
    if image.mode not in _MODES:
        raise BadImage(
            name,
            f"pixels of mode {image.mode} have no agreed way to RGB 0..255. "
            "Save the image as RGB or grey with 8 or 16 bits.",
        )
    try:
        if image.format == "PNG":
            # Loading passes over the checksums of a PNG; verifying reads them but spends the image.
            image.verify()
            image = open_image(io.BytesIO(encoded))
        image.load()
    except Exception as error:  # As above, for the damaged body.
        raise BadImage(name, f"it does not decode to the end: {error}") from error
    return image


def _to_rgb(image, size, name):
    """A decoded Pillow image -> `(size, size, 3)` uint8 RGB."""
    image = _convert(image, name)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.array(image)


def _convert(image, name):
    """A decoded Pillow image -> the same upright and in RGB."""
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # As above, for damaged metadata.
        raise BadImage(name, f"its EXIF orientation does not decode: {error}") from error
    if image.mode.startswith("I;16"):
        # Pillow's own conversion to 8 bits clips at 255: nearly every pixel would turn white.
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


def _is_intact(encoded, kind):
    """Whether a decodable file is a whole PNG or a baseline JPEG of one scan with no stray marker.

    Pillow reads past damage that TensorFlow refuses: a byte of the scan turned into a marker, a
    lost end. Neither may surface in the middle of a training run.
    """
    if kind == "PNG":
        return encoded.endswith(_PNG_END)
    scan = encoded.find(b"\xff\xda")
    stop = _MARKER.search(encoded, scan + 2)
    return (
        kind == "JPEG"
        and encoded.find(b"\xff\xc0", 0, scan) > 0
        and stop is not None
        and encoded[stop.start() :] == b"\xff\xd9"
    )
