"""One image file -> one aligned face crop or one photo; every reader follows the same rules."""

import functools
import io
import os
import re
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from keras_facemargin.images.crop import LARGEST, Crop, Size

# The formats that are read, by Pillow's names. Pillow has thirty more parsers: faces do not need
# them, and a hostile file could choose one.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
_NAMED_FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF, PPM or AVIF"
_HEIC_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
# Kinds of pixels with one obvious way to RGB 0..255, by Pillow's names.
_MODES = frozenset(
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I;16B"]
)
# A JPEG marker that is not allowed inside a scan: neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_LARGEST_PHOTO = 16384  # pixels a side
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class HasBytes(Protocol):
    """An image in a container, such as `zipfile.Path` or an image of `FaceRecords`."""

    def read_bytes(self) -> bytes: ...


ImageFile: TypeAlias = str | os.PathLike[str] | HasBytes


class BadImage(ValueError):
    """An image that cannot become a face crop.

    Attributes:
        path: the file (or the name given to the bytes), a string.
        reason: the fault and, where there is one, the way out.
    """

    def __init__(self, path: Any, reason: str) -> None:
        # Both arguments go to ValueError, so that the error can be pickled between processes.
        self.path: str = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
        super().__init__(self.path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def read_face(path: ImageFile, size: Size = 112) -> npt.NDArray[np.uint8]:
    """Reads an aligned face crop from a file, uint8 `(height, width, 3)`, RGB.

    JPEG, PNG, WebP, BMP, GIF, TIFF, PPM (PGM) and AVIF are read, and HEIC where the package
    pillow-heif is installed. Any kind of pixel becomes RGB 0..255:

    - the EXIF orientation is applied;
    - grey and palette images get three channels;
    - transparent pixels are drawn over black, the border colour of alignment;
    - CMYK is converted without a colour profile;
    - 16-bit channels keep their high byte (value // 256);
    - the first of several frames is read.

    An image of the crop's shape but another size is resized with Pillow's antialiased LANCZOS
    filter. An image of another shape (a 112x96 crop for an embedder of 112x112, a photo) is
    refused: to squeeze or cut it would move eyes and mouth off the places where the embedder
    expects them. An image of more than 4096 pixels a side is refused too.

    Args:
        path: the image file, or an image in a container: any object with `read_bytes()`, as
            `pathlib.Path`, `zipfile.Path` and the images of `FaceRecords` and `PairsBin` have it.
        size: height of a square crop in pixels, `(height, width)`, or a `Crop`.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        BadImage: the file is empty, truncated, not an image, of another shape, too large, or of a
            kind of pixel without an agreed way to RGB (32-bit, Lab).
        OSError: the file cannot be opened (it is missing, a directory, or not readable).

    Example:

    ```python
    image = read_face("faces/Ada Lovelace/0001.jpg")  # (112, 112, 3) uint8
    ```
    """
    return decode_face(read_bytes(path), size, path)


def read_bytes(path: ImageFile) -> bytes:
    """The bytes of an image file, or of an image in a container (see `read_face`)."""
    if hasattr(path, "read_bytes"):
        return path.read_bytes()
    with open(path, "rb") as file:
        return file.read()


def read_photo(path: ImageFile) -> npt.NDArray[np.uint8]:
    """Reads a photo of any shape as uint8 `(H, W, 3)`, RGB, to find and align the faces in it.

    The rules are those of `read_face`, except that a photo has any shape, is not resized, and has
    up to 16,384 pixels a side. The EXIF orientation is applied: points on the photo (`align_face`)
    count on the picture as a viewer shows it, not on the pixels as stored.

    Args:
        path: as `read_face`.

    Returns:
        uint8 array `(H, W, 3)`, RGB.

    Raises:
        BadImage: the file is empty, truncated, not an image, too large, or of a kind of pixel
            without an agreed way to RGB.
        OSError: as `read_face`.

    Example:

    ```python
    photo = read_photo("holiday/IMG_0001.jpg")  # (3024, 4032, 3) uint8
    ```
    """
    encoded = read_bytes(path)
    image = _decode(encoded, _open(encoded, path), path, "photo", _LARGEST_PHOTO)
    return np.array(_convert(image, path))


def read_thumbnail(path: ImageFile, height: int = 112) -> npt.NDArray[np.uint8]:
    """Reads an image of any shape at one height, uint8 `(height, W, 3)`, RGB, for a picture."""
    image = Image.fromarray(read_photo(path))
    width = max(1, round(image.width * height / image.height))
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


def decode_face(encoded: bytes, size: Size = 112, name: Any = "<bytes>") -> npt.NDArray[np.uint8]:
    """Decodes the bytes of an image file by the rules of `read_face`.

    Args:
        encoded: the bytes of the file.
        size: as `read_face`.
        name: the image's name in an error.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        BadImage: as `read_face`.
    """
    crop = Crop.of(size)
    return _to_rgb(_decode_crop(encoded, crop, name), crop, name)


def encode_face(crop: npt.NDArray[np.uint8]) -> bytes:
    """Encodes a crop, uint8 `(height, width, 3)`, as JPEG of quality 95 with full colour.

    Example:

    >>> decode_face(encode_face(np.full((112, 112, 3), 128, "uint8")))[0, 0].tolist()
    [128, 128, 128]
    """
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def check_face(path: ImageFile, size: Size = 112) -> bool:
    """Decodes an image to its last pixel and decides which decoder may read it from now on.

    Args:
        path, size: as `read_face`.

    Returns:
        True if the file is plain: TensorFlow's decoder for JPEG and PNG accepts it and returns
        exactly the pixels of `read_face`. False if only `read_face` does.

    Raises:
        BadImage, OSError: as `read_face`.
    """
    return check_encoded(read_bytes(path), size, path)


def check_encoded(encoded: bytes, size: Size = 112, name: Any = "<bytes>") -> bool:
    """Checks the bytes of an image file as `check_face` does.

    Args:
        encoded, size, name: as `decode_face`.

    Returns:
        bool, as `check_face`.

    Raises:
        BadImage: as `read_face`.
    """
    crop = Crop.of(size)
    image = _decode_crop(encoded, crop, name)
    _to_rgb(image, crop, name)
    return (
        image.size == (crop.width, crop.height)
        and image.mode in ("RGB", "L")
        and not image.has_transparency_data
        and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        and _is_intact(encoded, image.format)
    )


def read_size(path: ImageFile) -> tuple[int, int]:
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


def open_image(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Opens an image with Pillow, which reads its header with the parsers of `FORMATS` only.

    Args:
        file: a path or a binary stream.

    Returns:
        A Pillow image, not decoded yet.

    Raises:
        PIL.UnidentifiedImageError: the file has none of these formats.
        Exception: of almost any type, on a damaged header.
    """
    return Image.open(file, formats=_known_formats())


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(each for each in FORMATS if each in Image.OPEN)  # Pillow 11.0 has no AVIF


def _open(encoded: bytes, name: Any) -> Image.Image:
    """Bytes -> a Pillow image, not decoded yet."""
    if not encoded:
        raise BadImage(name, "the file is empty (0 bytes).")
    try:
        return open_image(io.BytesIO(encoded))
    except UnidentifiedImageError:
        if encoded[4:8] == b"ftyp" and encoded[8:12] in _HEIC_BRANDS:
            return _open_heic(encoded, name)
        raise BadImage(name, f"not an image in {_NAMED_FORMATS}.") from None
    except Image.DecompressionBombError:
        raise BadImage(
            name, "an image has at most 178 megapixels. Shrink it, or repair its header."
        ) from None
    except Exception as error:  # Pillow's parsers raise almost any type on a damaged header.
        raise BadImage(name, f"its header does not decode: {error}") from error


def _open_heic(encoded: bytes, name: Any) -> Image.Image:
    try:
        import pillow_heif
    except ImportError:
        raise BadImage(
            name,
            "a HEIC photo needs the package pillow-heif: pip install 'keras_facemargin[heic]'. "
            "Or save the photo as JPEG.",
        ) from None
    pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(encoded), formats=["HEIF"])
    except Exception as error:  # As above.
        raise BadImage(name, "the header of the HEIC photo does not decode.") from error


def _decode_crop(encoded: bytes, crop: Crop, name: Any) -> Image.Image:
    """Bytes -> a fully decoded Pillow image of the crop's shape, its pixels still as stored."""
    image = _open(encoded, name)
    sides = image.size
    if not (_has_shape(sides, crop) or _has_shape(sides[::-1], crop)):
        raise _other_shape(sides, crop, name)  # before the pixels of a large photo are decoded
    return _decode(encoded, image, name, "face crop", LARGEST)


def _has_shape(sides: tuple[int, int], crop: Crop) -> bool:
    width, height = sides
    return width * crop.height == height * crop.width


def _other_shape(sides: tuple[int, int], crop: Crop, name: Any) -> BadImage:
    square = crop.height == crop.width
    shape = "be square" if square else f"have the shape of {crop} (height x width)"
    option = "" if crop.size == 112 else f" --size {crop.height if square else crop}"
    return BadImage(
        name,
        f"an aligned face crop must {shape}. Received: {sides[1]}x{sides[0]} (height x width). "
        f"Align the photo first: facemargin align PHOTOS CROPS{option}",
    )


def _decode(encoded: bytes, image: Image.Image, name: Any, kind: str, largest: int) -> Image.Image:
    """An opened image, fully decoded, its pixels still as stored."""
    if max(image.size) > largest:
        raise BadImage(
            name,
            f"a {kind} has at most {largest:,} pixels a side. Received: {max(image.size):,}. "
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
            # Loading skips the checksums of a PNG; verifying reads them but uses the image up.
            image.verify()
            image = open_image(io.BytesIO(encoded))
        image.load()
    except Exception as error:  # As above, for the damaged body.
        raise BadImage(name, f"it does not decode to the end: {error}") from error
    return image


def _to_rgb(image: Image.Image, crop: Crop, name: Any) -> npt.NDArray[np.uint8]:
    """A decoded Pillow image -> uint8 RGB of the crop's size."""
    image = _convert(image, name)
    if not _has_shape(image.size, crop):  # turned by EXIF
        raise _other_shape(image.size, crop, name)
    if image.size != (crop.width, crop.height):
        image = image.resize((crop.width, crop.height), Image.Resampling.LANCZOS)
    return np.array(image)


def _convert(image: Image.Image, name: Any) -> Image.Image:
    """A decoded Pillow image -> the same, upright and in RGB."""
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


def _is_intact(encoded: bytes, kind: str | None) -> bool:
    """Whether a decodable file is a whole PNG or a baseline JPEG of one scan with no stray marker.

    Pillow accepts damage that TensorFlow refuses: a byte of the scan turned into a marker, a lost
    end. Such a file must not stop a training run in the middle.
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
