"""A report as one self-contained HTML file with its pictures inside, readable on a phone."""

import base64
import html
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_facemargin.files import atomic_write
from keras_facemargin.images.image import open_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Follows the light or dark setting of the browser; pictures keep a white background in both.
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #63686f; --line: #dfe2e6; --ground: #fff;
  --raised: #f6f7f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e9eb; --soft: #9aa0a8; --line: #33373d;
  --ground: #16181b; --raised: #1f2226; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.1rem 4rem; max-width: 54rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0 0 1.5rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.015em; }
h2 { margin: 2.6rem 0 0.6rem; padding-top: 1.2rem; border-top: 1px solid var(--line);
  font-size: 1.25rem; line-height: 1.3; }
p { margin: 0.7rem 0; max-width: 42rem; }
figure { margin: 1.4rem 0; }
figcaption { margin-top: 0.5rem; color: var(--soft); font-size: 0.9rem; line-height: 1.45; }
img { display: block; max-width: 100%; height: auto; border-radius: 8px; background: #fff; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: collapse; font-size: 0.94rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.5rem 0.85rem; text-align: left; vertical-align: top; }
th { background: var(--raised); color: var(--soft); font-weight: 600; font-size: 0.85rem; }
td { border-top: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; }
.power { white-space: nowrap; }
@media (max-width: 40rem) {
  .wide thead { display: none; }
  .wide tr { display: block; padding: 0.5rem 0; border-top: 1px solid var(--line); }
  .wide tr:first-child { border-top: 0; }
  .wide td { display: flow-root; padding: 0.15rem 0.85rem 0.15rem 50%; border-top: 0;
    overflow-wrap: anywhere; }
  .wide td::before { content: attr(data-label); float: left; width: 100%; margin-left: -100%;
    padding-right: 0.85rem; box-sizing: border-box; color: var(--soft); }
  .wide td:first-child { padding-left: 0.85rem; font-weight: 600; }
  .wide td:first-child::before { content: none; }
  .wide .number { text-align: left; white-space: normal; }
}
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""

# Numbers like 1e-6 and 1e-06, which a browser would break at the hyphen.
_POWER = re.compile(r"\d(?:\.\d+)?e-\d+")

# A table with more columns is a list on a phone, each cell with its header.
_NARROW = 4

# Places in a file name where a browser may break a header.
_JOINT = re.compile(r"_|(?<=[a-z0-9])\.(?=[a-z])")

# Formats that every browser shows, by Pillow's name for them.
_BROWSER_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


class Report:
    """Collects text, tables and pictures in order and writes them as one HTML file.

    All text is escaped. The file refers to no other file and no host. Every method except `write`
    returns the report, so that calls can be chained.

    Args:
        title: title and first heading of the page.

    Example:
        >>> report = Report("Two faces").paragraph("Scored by cosine.")
        >>> path = report.table(["pair", "score"], [["A, B", 0.71]]).write("report.html")
    """

    def __init__(self, title: str):
        self.title = title
        self._blocks: list[str] = []

    def heading(self, text: str) -> "Report":
        """Starts a section with a heading."""
        return self._add(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> "Report":
        """Adds a paragraph of plain text."""
        return self._add(f"<p>{html.escape(text)}</p>")

    def table(
        self,
        headers: Iterable[str],
        rows: Iterable[Iterable[object]],
        caption: str | None = None,
    ) -> "Report":
        """Adds a table. A column of numbers only is aligned right.

        Args:
            headers: one text for each column.
            rows: rows with one cell for each column; a cell is shown as ``str(cell)``.
            caption: text below the table.

        Raises:
            ValueError: if a row does not have one cell for each header.
        """
        titles, cells = list(headers), [list(row) for row in rows]
        for row in cells:
            if len(row) != len(titles):
                raise ValueError(
                    f"Each row must have one cell per header ({len(titles)}: {titles}). "
                    f"Received: {len(row)} cells: {row}."
                )
        columns = zip(*cells, strict=True) if cells else [()] * len(titles)
        kinds = [
            ' class="number"' if column and all(map(_is_number, column)) else ""
            for column in columns
        ]
        head = _breakable(_cells("th", titles, kinds))
        opening = "<table>"
        if len(titles) > _NARROW:
            opening = '<table class="wide">'
            kinds = [
                f'{kind} data-label="{html.escape(title)}"'
                for kind, title in zip(kinds, titles, strict=True)
            ]
        body = "\n".join(f"<tr>{_cells('td', row, kinds)}</tr>" for row in cells)
        return self._figure(
            f'<div class="scroll">{opening}\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>",
            caption,
        )

    def figure(self, figure: "Figure", caption: str | None = None) -> "Report":
        """Adds a matplotlib figure as a PNG picture."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return self._picture("image/png", buffer.getvalue(), caption)

    def image(
        self, image: npt.NDArray[np.uint8] | str | os.PathLike[str], caption: str | None = None
    ) -> "Report":
        """Adds a picture.

        Args:
            image: a uint8 array, ``(H, W, 3)`` RGB or ``(H, W)`` grey, or a PNG, JPEG or WebP file,
                which is stored byte for byte.
            caption: text below the picture.

        Raises:
            ValueError: if the array or the file has another type.
            OSError: if the file cannot be read.
        """
        if isinstance(image, np.ndarray):
            return self._picture("image/png", _png(image), caption)
        media_type, data = _browser_picture(Path(image))
        return self._picture(media_type, data, caption)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page in one step and returns its path."""
        path = Path(path)
        page = _PAGE.format(
            title=html.escape(self.title), style=_STYLE, body="\n".join(self._blocks)
        )
        with atomic_write(path, "wb") as file:
            file.write(page.encode("utf-8", "backslashreplace"))  # file names may not be UTF-8
        return path

    def _add(self, block: str) -> "Report":
        self._blocks.append(block)
        return self

    def _figure(self, content: str, caption: str | None) -> "Report":
        words = f"\n<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        return self._add(f"<figure>\n{content}{words}\n</figure>")

    def _picture(self, media_type: str, data: bytes, caption: str | None) -> "Report":
        source = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
        words = html.escape(caption or "")
        return self._figure(f'<img src="{source}" alt="{words}">', caption)


def _cells(tag: str, cells: Iterable[object], kinds: Sequence[str]) -> str:
    return "".join(
        f"<{tag}{kind}>{_unbroken(html.escape(str(cell)))}</{tag}>"
        for cell, kind in zip(cells, kinds, strict=True)
    )


def _breakable(title: str) -> str:
    """Headers that a browser may break after an underscore or a dot: file names are long."""
    return _JOINT.sub(r"\g<0><wbr>", title)


def _unbroken(text: str) -> str:
    return _POWER.sub(r'<span class="power">\g<0></span>', text)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float | np.number) and not isinstance(cell, bool)


def _png(pixels: npt.NDArray[Any]) -> bytes:
    grey_or_rgb = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not grey_or_rgb:
        raise ValueError(
            "`image` must be a uint8 array of shape (H, W, 3) or (H, W), or a file. "
            f"Received: {pixels.dtype} of shape {pixels.shape}."
        )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _browser_picture(path: Path) -> tuple[str, bytes]:
    data = path.read_bytes()
    try:
        kind = open_image(io.BytesIO(data)).format
    except Exception:  # Pillow's parsers raise nearly anything on a damaged header
        kind = "not an image"
    if kind not in _BROWSER_FORMATS:
        formats = ", ".join(_BROWSER_FORMATS)
        raise ValueError(
            f"{path}: must be one of {formats}, which browsers show. Received: {kind}."
        )
    return _BROWSER_FORMATS[kind], data
