"""The text of the pixels that a file takes."""

import numpy as np
import pytest

from keras_facemargin.runtime import Pixels

pytestmark = pytest.mark.any_backend

IMAGENET = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("raw", Pixels()),
        ("0..1", Pixels(scale=(255.0,) * 3)),
        ("x/255", Pixels(scale=(255.0,) * 3)),
        ("minus1..1", Pixels((127.5,) * 3, (127.5,) * 3)),
        ("( x / 255 - 0.5 ) / 0.5", Pixels((127.5,) * 3, (127.5,) * 3)),
        ("(x-127.5)/128", Pixels((127.5,) * 3, (128.0,) * 3)),
        ("imagenet", IMAGENET),
        ("(x/255-0.485,0.456,0.406)/[0.229,0.224,0.225]", IMAGENET),
        ("bgr raw", Pixels(channel_order="BGR")),
        ("BGR (x-1,2,3)/4", Pixels((1.0, 2.0, 3.0), (4.0,) * 3, "BGR")),
        ("BGR imagenet", Pixels(IMAGENET.mean[::-1], IMAGENET.scale[::-1], "BGR")),
    ],
)
def test_a_text_names_the_pixels_and_pixels_name_the_text(text, wanted):
    assert Pixels.of(text) == wanted
    assert Pixels.of(str(wanted)) == wanted


@pytest.mark.parametrize(
    "text", ["", "y", "x/0", "(x-1)/0", "(x-1,2)/3", "x-1", "1e999", "(x-1)/1e999", "BGR"]
)
def test_another_text_is_refused(text):
    with pytest.raises(ValueError, match="pixels that a file takes must be raw"):
        Pixels.of(text)


def test_the_rule_is_in_the_order_of_the_file():
    image = np.array([[[[10, 20, 30]]]], "uint8")
    pixels = Pixels((1.0, 2.0, 3.0), (1.0, 2.0, 1.0), "BGR")
    assert pixels.apply(image).tolist() == [[[[29.0, 9.0, 7.0]]]]
    assert Pixels().apply(image).tolist() == [[[[10.0, 20.0, 30.0]]]]
