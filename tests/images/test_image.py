"""read_face: every kind of pixel by its stated rule, every kind of damage by one error."""

import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, features

from keras_facemargin.images.crop import Crop
from keras_facemargin.images.image import BadImage, check_face, decode_face, read_face, read_size


@pytest.fixture
def pixels():
    """Smooth colours with some noise: JPEG keeps them, and no two pixels' neighbourhoods agree."""
    rows, columns = np.mgrid[0:112, 0:112]
    image = np.stack([2 * rows, 2 * columns, rows + columns], axis=-1)
    return (image + np.random.default_rng(0).integers(0, 20, image.shape)).astype("uint8")


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_lossless_rgb_is_returned_as_stored(pixels, tmp_path):
    path = tmp_path / "Zoë Ångström 1.png"
    Image.fromarray(pixels).save(path)
    image = read_face(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)
    np.testing.assert_array_equal(read_face(str(path)), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_is_spread_to_three_equal_channels(pixels, kind):
    image = decode_face(encode(Image.fromarray(pixels[..., 0]), kind, **_quality(kind)))
    assert image.shape == (112, 112, 3)
    assert np.ptp(image, axis=-1).max() == 0
    np.testing.assert_allclose(image[..., 0], pixels[..., 0], atol=2)


def _quality(kind):
    return {"quality": 100} if kind == "JPEG" else {}


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_laid_over_black(pixels, mode):
    image = Image.fromarray(pixels).convert(mode)
    alpha = np.full((112, 112), 255, "uint8")
    alpha[:, :40] = 0
    alpha[:, 40:80] = 128
    image.putalpha(Image.fromarray(alpha))
    opaque = np.array(image.convert("RGB"))
    decoded = decode_face(encode(image))
    assert decoded[:, :40].max() == 0
    np.testing.assert_allclose(decoded[:, 40:80], opaque[:, 40:80] * (128 / 255), atol=1)
    np.testing.assert_array_equal(decoded[:, 80:], opaque[:, 80:])


def test_a_transparent_colour_is_laid_over_black(pixels):
    pixels[:5] = (10, 250, 10)
    decoded = decode_face(encode(Image.fromarray(pixels), transparency=(10, 250, 10)))
    assert decoded[:5].max() == 0
    np.testing.assert_array_equal(decoded[5:], pixels[5:])


def test_palette(pixels):
    palette = Image.fromarray(pixels).quantize(64)
    np.testing.assert_array_equal(decode_face(encode(palette)), np.array(palette.convert("RGB")))


def test_cmyk_becomes_rgb(pixels):
    encoded = encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=100)
    np.testing.assert_allclose(decode_face(encoded), pixels, atol=12)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_high_byte(kind):
    deep = np.random.default_rng(0).integers(0, 65536, (112, 112)).astype("uint16")
    decoded = decode_face(encode(Image.fromarray(deep), kind))
    np.testing.assert_array_equal(decoded, np.repeat((deep // 256)[..., None], 3, axis=-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(pixels, orientation):
    turned = {  # how a viewer turns the stored pixels for each value
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels.transpose(1, 0, 2), 2),
        8: np.rot90(pixels),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_face(encode(Image.fromarray(pixels), exif=exif))
    np.testing.assert_array_equal(decoded, turned[orientation])


@pytest.mark.parametrize("side", [16, 56, 224, 500])
def test_a_square_of_another_size_is_resized(side):
    ramp = np.linspace(0, 255, side)
    image = np.broadcast_to(ramp[:, None, None], (side, side, 3)).astype("uint8")
    decoded = decode_face(encode(Image.fromarray(image)))
    assert decoded.shape == (112, 112, 3)
    middle = slice(10, 102)  # the filter rings at the ends of the ramp
    expected = (np.arange(112) + 0.5) / 112 * side - 0.5
    expected = np.interp(expected, np.arange(side), ramp)[:, None, None]
    np.testing.assert_allclose(
        decoded[middle], np.broadcast_to(expected, (112, 112, 3))[middle], atol=4
    )
    assert decode_face(encode(Image.fromarray(image)), size=80).shape == (80, 80, 3)


def test_of_several_frames_the_first_is_taken(pixels):
    black = Image.fromarray(np.zeros_like(pixels))
    encoded = encode(Image.fromarray(pixels), "TIFF", save_all=True, append_images=[black])
    np.testing.assert_array_equal(decode_face(encoded), pixels)


def bad(encoded):
    with pytest.raises(BadImage) as caught:
        decode_face(encoded, name="some name.jpg")
    assert caught.value.path == "some name.jpg"
    assert str(caught.value) == f"some name.jpg: {caught.value.reason}"
    return caught.value.reason


def test_zero_bytes():
    assert "empty" in bad(b"")


LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "PPM": {}}
LOSSY = {"JPEG": {"quality": 95}, "MPO": {"quality": 95}, "GIF": {}, "AVIF": {"quality": 95}}


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_the_formats_that_the_documentation_names_are_read(pixels, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    encoded = encode(Image.fromarray(pixels), kind, **(LOSSLESS | LOSSY)[kind])
    difference = np.abs(decode_face(encoded).astype(int) - pixels).mean()
    assert difference == 0 if kind in LOSSLESS else difference < 12


@pytest.mark.parametrize("kind", ["TGA", "ICO", "PCX", "SGI", "DDS", "EPS", "JPEG2000"])
def test_other_parsers_of_pillow_are_not_asked(pixels, kind):
    """Some start other programs (EPS), and each is one more for a hostile file to choose."""
    encoded = encode(Image.fromarray(pixels), kind)
    Image.open(io.BytesIO(encoded))  # Pillow would
    assert bad(encoded) == "not an image in JPEG, PNG, WebP, BMP, GIF, TIFF, PPM or AVIF."


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_a_heic_photo_names_the_package_that_reads_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "HEIC" in bad(HEIC) and "'keras_facemargin[heic]'" in bad(HEIC)
    assert "HEIC" not in bad(HEIC.replace(b"heic", b"isom"))  # a film


def test_a_heic_photo_is_read_where_the_package_is_installed(pixels, monkeypatch):
    class Photo(ImageFile.ImageFile):
        """What the package would make of the bytes."""

        format = "HEIF"

        def _open(self):
            self._size, self._mode = (112, 112), "RGB"

        def load(self):
            self.im = Image.fromarray(pixels).im

    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_open("HEIF", Photo)
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    np.testing.assert_array_equal(decode_face(HEIC), pixels)


def test_the_size_is_read_from_the_header(pixels, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(Image.fromarray(pixels[:90]))[:60])
    assert read_size(tmp_path / "a.png") == (112, 90)
    with pytest.raises(BadImage, match="empty"):
        (tmp_path / "a.png").write_bytes(b"")
        read_size(tmp_path / "a.png")


def test_text_is_not_an_image():
    assert "not an image" in bad(b"name,label\nAda,0\n" * 100)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.02])
def test_truncated(pixels, kind, kept):
    whole = encode(Image.fromarray(pixels), kind)
    assert bad(whole[: int(len(whole) * kept)])


def test_a_png_whose_checksum_fails(pixels):
    whole = bytearray(encode(Image.fromarray(pixels)))
    whole[whole.index(b"IDAT") + 500] ^= 1
    assert "does not decode" in bad(bytes(whole))


def test_a_crop_of_another_shape_is_refused_with_the_way_out(pixels):
    narrow = encode(Image.fromarray(pixels[:, :96]))
    reason = bad(narrow)
    assert "must be square. Received: 112x96 (height x width)" in reason
    assert reason.endswith("facemargin align PHOTOS CROPS")
    with pytest.raises(BadImage, match=r"must be square.* align PHOTOS CROPS --size 160$"):
        decode_face(narrow, 160)
    with pytest.raises(BadImage, match=r"shape of 112x96 .*Received: 112x112.*--size 112x96$"):
        decode_face(encode(Image.fromarray(pixels)), (112, 96))


@pytest.mark.parametrize("size", [(112, 96), (150, 150), (160, 160)])
def test_crops_of_other_sizes_are_read_as_they_are(pixels, tmp_path, size):
    height, width = size
    expected = np.tile(pixels, (2, 2, 1))[:height, :width]
    Image.fromarray(expected).save(tmp_path / "crop.png")
    assert check_face(tmp_path / "crop.png", size)
    np.testing.assert_array_equal(read_face(tmp_path / "crop.png", size), expected)
    np.testing.assert_array_equal(read_face(tmp_path / "crop.png", Crop(*size, None)), expected)
    larger = (2 * height, 2 * width)
    assert read_face(tmp_path / "crop.png", larger).shape == (*larger, 3)
    assert not check_face(tmp_path / "crop.png", larger)


def test_a_narrow_crop_is_judged_as_its_orientation_shows_it(pixels):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    wide, narrow = pixels[:96], pixels[:, :96]
    turned = encode(Image.fromarray(wide), "JPEG", exif=exif, quality=100)
    assert decode_face(turned, (112, 96)).shape == (112, 96, 3)
    turned = encode(Image.fromarray(narrow), "JPEG", exif=exif, quality=100)
    with pytest.raises(BadImage, match="Received: 96x112"):
        decode_face(turned, (112, 96))


def test_pixels_of_32_bits_have_no_range():
    reason = bad(encode(Image.fromarray(np.ones((112, 112), "float32")), "TIFF"))
    assert "mode F" in reason


def test_the_error_survives_the_way_between_processes():
    error = BadImage("a.jpg", "torn")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.reason) == ("a.jpg: torn", "a.jpg", "torn")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        read_face(tmp_path / "gone.jpg")


def variants(pixels):
    """(name, bytes, whether plain) of one picture stored in many ways."""
    rgb = Image.fromarray(pixels)
    turned, upright = Image.Exif(), Image.Exif()
    turned[0x0112], upright[0x0112] = 6, 1
    yield "jpeg", encode(rgb, "JPEG"), True
    yield "jpeg 4:4:4", encode(rgb, "JPEG", subsampling=0), True
    yield "jpeg restarts", encode(rgb, "JPEG", restart_marker_blocks=3), True
    yield "jpeg grey", encode(rgb.convert("L"), "JPEG"), True
    yield "jpeg upright", encode(rgb, "JPEG", exif=upright), True
    yield "jpeg turned", encode(rgb, "JPEG", exif=turned), False
    yield "jpeg progressive", encode(rgb, "JPEG", progressive=True), False
    yield "jpeg cmyk", encode(rgb.convert("CMYK"), "JPEG"), False
    yield "jpeg other size", encode(rgb.resize((96, 96)), "JPEG"), False
    yield "jpeg and more", encode(rgb, "JPEG") + b"trailer", False
    yield "png", encode(rgb), True
    yield "png grey", encode(rgb.convert("L")), True
    yield "png alpha", encode(rgb.convert("RGBA")), False
    yield "png palette", encode(rgb.quantize(16)), False
    yield "png 16 bit", encode(Image.fromarray(pixels[..., 0].astype("uint16") * 257)), False
    yield "png two tones", encode(rgb.convert("1")), False
    yield "webp", encode(rgb, "WEBP"), False


def test_plain_files_decode_alike_in_tensorflow(pixels, tmp_path):
    tf = pytest.importorskip("tensorflow")
    for name, encoded, plain in variants(pixels):
        (tmp_path / name).write_bytes(encoded)
        assert check_face(tmp_path / name) is plain, name
        if plain:
            image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
            np.testing.assert_array_equal(image, decode_face(encoded), err_msg=name)


def test_damage_that_only_tensorflow_refuses_is_not_plain(pixels, tmp_path):
    jpeg, png = encode(Image.fromarray(pixels), "JPEG"), encode(Image.fromarray(pixels))
    middle = (jpeg.index(b"\xff\xda") + len(jpeg)) // 2
    for name, damaged in {
        "a marker amid the scan": jpeg[:middle] + b"\xff\xe7" + jpeg[middle + 2 :],
        "no end marker": jpeg[:-2] + b"R\xd9",
        "wrong checksum of the end chunk": png[:-1] + b"\0",
    }.items():
        (tmp_path / name).write_bytes(damaged)
        try:
            plain = check_face(tmp_path / name)
        except BadImage:
            plain = False  # refused altogether, as good
        assert not plain, name


def test_a_crop_of_absurd_size_is_refused_before_its_pixels_are_made():
    header = bytearray(encode(Image.new("L", (4096, 4096)), "JPEG"))
    assert decode_face(bytes(header)).shape == (112, 112, 3)
    frame = header.index(b"\xff\xc0")
    header[frame + 5 : frame + 9] = struct.pack(">HH", 4097, 4097)
    with pytest.raises(BadImage, match=r"at most 4,096 pixels a side\. Received: 4,097"):
        decode_face(bytes(header))


def test_an_image_in_a_container_is_read_like_a_file(pixels, tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("ada.png", encode(Image.fromarray(pixels)))
        archive.writestr("bad.png", b"junk")
    with zipfile.ZipFile(tmp_path / "faces.zip") as archive:
        np.testing.assert_array_equal(read_face(zipfile.Path(archive, "ada.png")), pixels)
        assert check_face(zipfile.Path(archive, "ada.png"))
        with pytest.raises(BadImage, match=r"faces\.zip/bad\.png: not an image"):
            read_face(zipfile.Path(archive, "bad.png"))
