"""The crop and the pixels that an exported file carries inside."""

import json
from typing import NamedTuple

from keras_facemargin.images.crop import Crop
from keras_facemargin.runtime.pixels import Pixels

# Name of the entry: in ONNX of `metadata_props`, in TFLite of `metadata`.
ENTRY = "keras_facemargin"


class Carried(NamedTuple):
    """The input of a file, as the file itself states it.

    Attributes:
        crop: the crop that it takes.
        pixels: the pixels that it takes.
    """

    crop: Crop
    pixels: Pixels

    def to_json(self) -> str:
        """The text of the entry.

        Example:

        >>> Carried(Crop(112, 112), Pixels()).to_json()
        '{"height": 112, "width": 112, "template": "arcface", "pixels": "raw"}'
        """
        crop = {
            "height": self.crop.height,
            "width": self.crop.width,
            "template": self.crop.template,
        }
        return json.dumps({**crop, "pixels": str(self.pixels)})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Carried":
        """The input from the text of the entry.

        Raises:
            ValueError: the text is not an entry that `to_json` wrote.
        """
        try:
            found = json.loads(text)
            crop = Crop(found["height"], found["width"], found["template"])
            return cls(crop, Pixels.of(found["pixels"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The entry {ENTRY!r} of a file must hold its crop and its pixels. Received: "
                f"{text[:100]!r} ({error})"
            ) from None
