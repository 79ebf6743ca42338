"""The crop that an embedder takes: its size, and the places of eyes, nose and mouth in it.

`Crop` is the one record of both. Readers, aligners and embedders take a `size`: an integer (the
height of a square crop), `(height, width)`, or a `Crop`.
"""

import dataclasses
import operator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

LARGEST = 4096  # pixels a side; a damaged header may claim more


class Template(NamedTuple):
    """Five points in a crop.

    Attributes:
        points: five `(x, y)` in pixels: left eye, right eye, nose, left and right mouth corner,
            left and right as a viewer sees them. `(0, 0)` is the centre of the first pixel.
        height, width: size of the crop, in pixels.
    """

    points: tuple[tuple[float, float], ...]
    height: int
    width: int


TEMPLATES = {
    # InsightFace's `arcface_dst`.
    "arcface": Template(
        (
            (38.2946, 51.6963),
            (73.5318, 51.5014),
            (56.0252, 71.7366),
            (41.5493, 92.3655),
            (70.7299, 92.2041),
        ),
        height=112,
        width=112,
    ),
    # `face_align_demo.m` of SphereFace; the same places, 8 columns to the left.
    "sphereface": Template(
        (
            (30.2946, 51.6963),
            (65.5318, 51.5014),
            (48.0252, 71.7366),
            (33.5493, 92.3655),
            (62.7299, 92.2041),
        ),
        height=112,
        width=96,
    ),
    # The medians of MTCNN's points in 7,655 chips of LFW that dlib's `get_face_chip` cut with
    # padding 0.25. dlib itself aligns by other points: the corners of the eyes and the nose base.
    "dlib": Template(
        (
            (47.44, 45.42),
            (101.15, 45.50),
            (74.13, 77.47),
            (50.57, 104.20),
            (97.86, 104.36),
        ),
        height=150,
        width=150,
    ),
}


@dataclasses.dataclass(frozen=True)
class Crop:
    """A face crop: its size and its template.

    A template fits every size of its shape. A crop scales about its corner, not about the centre of
    its first pixel (a crop of 224 pixels resized to 112 is the crop of 112), so a point `x` of the
    template becomes `(x + 0.5) * height / template height - 0.5`.

    **Implementations differ.** InsightFace's `estimate_norm` multiplies by `size / 112`, half a
    pixel off at 224; for sizes that 128 divides and 112 does not it scales by `size / 128` and adds
    `8 * size / 128` to x, a looser crop; older versions write the points of the 96 columns and add
    8 to x where the crop has 112. SphereFace's code calls its crop 96x112, width first, and counts
    pixels from 1 as Matlab does: a shift of half a pixel to a pixel between toolboxes is common.
    FaceNet's 160x160 crops are the detector's box with a margin, without points; the 160x160 crop
    here is the ArcFace template at that size.

    Args:
        height, width: size in pixels, 1..4096.
        template: `"arcface"` (square), `"sphereface"` (width 6/7 of the height), `"dlib"` (square),
            or None: the places of eyes, nose and mouth are unknown.

    Raises:
        ValueError: a size is out of range, the template is unknown or has another shape.

    Example:

    >>> Crop(112, 96, "sphereface").points[0].tolist()
    [30.2946, 51.6963]
    >>> Crop.of(224)
    Crop(height=224, width=224, template='arcface')
    """

    height: int
    width: int
    template: str | None = "arcface"

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            side = _whole(getattr(self, name))
            if side is None or not 1 <= side <= LARGEST:
                raise ValueError(
                    f"The {name} of a crop must be an integer in 1..{LARGEST}. "
                    f"Received: {name}={getattr(self, name)!r}"
                )
            object.__setattr__(self, name, side)  # a plain int, also from numpy
        if self.template is None:
            return
        wanted = _named(self.template)
        if self.height * wanted.width != self.width * wanted.height:
            raise ValueError(
                f"A crop of the template {self.template!r} has the shape {wanted.height}x"
                f"{wanted.width} (height x width), at any scale. Received: {self.height}x"
                f"{self.width}. Choose another size or another template."
            )

    @classmethod
    def of(cls, size: Any = None, template: str | None = None) -> "Crop":
        """The crop of a size.

        Without `template` the size decides: 150x150 is dlib's crop, every other square ArcFace's,
        6/7 as wide as high is SphereFace's, and another shape has no known template.

        Args:
            size: height of the crop, `(height, width)`, a `Crop`, or None for the template's own
                size. With a height alone the width follows from the template.
            template: name of a template, or None.

        Returns:
            A `Crop`.

        Raises:
            ValueError: as `Crop`; the size of a `Crop` comes with another template.

        Example:

        >>> Crop.of((112, 96)).template, Crop.of(150).template, Crop.of(template="dlib").height
        ('sphereface', 'dlib', 150)
        """
        if isinstance(size, Crop):
            if template not in (None, size.template):
                raise ValueError(
                    "A crop has one template. "
                    f"Received: size={size!r} with template={template!r}. Leave `template` out."
                )
            return size
        own = TEMPLATES["arcface"] if template is None else _named(template)
        if size is None:
            height, width = own.height, own.width
        elif (side := _whole(size)) is not None:
            height, width = side, side * own.width // own.height
            if height * own.width % own.height:
                raise ValueError(
                    f"The height of a crop of the template {template!r} must be a multiple of 7, "
                    f"since its width is 6/7 of it. Received: size={size!r}"
                )
        else:
            height, width = _pair(size)
        return cls(height, width, _known(height, width) if template is None else template)

    @classmethod
    def of_embedder(cls, embedder: Any) -> "Crop":
        """The crop that an embedder takes.

        Args:
            embedder: a Keras model `(B, H, W, 3) -> (B, D)`, or any callable. `load_embedder` notes
                the crop of its card in the attribute `crop`. Without it `input_shape` decides, and
                an embedder without an input shape, or with open sides, takes 112x112.

        Returns:
            A `Crop`; if the size decides, with the template that `Crop.of` finds for it.

        Example:

        >>> import keras
        >>> layers = [keras.Input((112, 96, 3)), keras.layers.Flatten()]
        >>> Crop.of_embedder(keras.Sequential(layers)).template
        'sphereface'
        """
        if isinstance(crop := getattr(embedder, "crop", None), Crop):
            return crop
        shape = getattr(embedder, "input_shape", None)
        sides = shape[1:3] if isinstance(shape, tuple) and len(shape) == 4 else ()
        return cls.of(tuple(sides)) if sides and None not in sides else cls.of()

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`."""
        return self.height, self.width

    @property
    def size(self) -> int | tuple[int, int]:
        """The height of a square crop, `(height, width)` of another."""
        return self.height if self.height == self.width else self.shape

    @property
    def points(self) -> npt.NDArray[np.float64]:
        """The five points, float64 `(5, 2)`, x and y in pixels of this crop.

        Raises:
            ValueError: the crop has no template.
        """
        if self.template is None:
            known = ", ".join(f"{name} {one.height}x{one.width}" for name, one in TEMPLATES.items())
            raise ValueError(
                "A face is aligned to a crop whose five points are known. "
                f"Received: {self} without a template. "
                f"Known templates (height x width, at any scale): {known}."
            )
        template = TEMPLATES[self.template]
        return (np.array(template.points) + 0.5) * (self.height / template.height) - 0.5

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


Size: TypeAlias = int | tuple[int, int] | Crop


def parse_size(text: str) -> int | tuple[int, int] | None:
    """The size in a text, height first; None if the text has another form.

    Example:

    >>> parse_size("160"), parse_size("112x96"), parse_size("large")
    (160, (112, 96), None)
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        return None
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _whole(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, tuple | list) and len(size) == 2:
        height, width = map(_whole, size)
        if height is not None and width is not None:
            return height, width
    raise ValueError(
        "The size of a crop must be an integer (the height), (height, width) or a Crop. "
        f"Received: size={size!r}"
    )


def _named(template: Any) -> Template:
    if not isinstance(template, str) or template not in TEMPLATES:
        raise ValueError(
            f"`template` must be one of {', '.join(map(repr, TEMPLATES))}. "
            f"Received: template={template!r}"
        )
    return TEMPLATES[template]


def _known(height: int, width: int) -> str | None:
    """The template of a size: one that has this very size, else the first of its shape."""
    for name, template in TEMPLATES.items():
        if (height, width) == (template.height, template.width):
            return name
    for name, template in TEMPLATES.items():
        if height * template.width == width * template.height:
            return name
    return None
