"""Opens, times and embeds with each embedder, and writes the page."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_facemargin.bench.embedding import embed_faces
from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.bench.latency import machine
from keras_facemargin.bench.models import Facts, Opener, facts_table
from keras_facemargin.bench.page import BenchPage, Found, thresholds_table
from keras_facemargin.evaluate import Verification
from keras_facemargin.images.crop import Size
from keras_facemargin.report import measures_table
from keras_facemargin.report.draws import Resampling
from keras_facemargin.report.task import page_file, require_embedders
from keras_facemargin.zoo import Embedder
from keras_facemargin.zoo.open import Model

# Ending of the folder of embeddings beside the page.
EMBEDDINGS = ".embeddings"


@dataclasses.dataclass(frozen=True, eq=False)
class Benched:
    """The results of one embedder in a bench.

    Attributes:
        facts: `Facts` that need no face: file, size, crop, licence, latency.
        all_pairs: `Measured` over all pairs of the faces; its `result` is a `PairRates`.
        official: the `Verification` of the official pairs, or None without a list.
    """

    facts: Facts
    all_pairs: Found
    official: Verification | None


def bench(
    output: str | os.PathLike[str],
    models: Sequence[Model | Embedder] | Mapping[str, Model | Embedder],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    pairs: str | os.PathLike[str] | None = None,
    groups: str | os.PathLike[str] | None = None,
    flip: bool = False,
    crop: Size | Mapping[str, Size] | None = None,
    pixels: str | Mapping[str, str] | None = None,
    replicates: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Benched]:
    """Compares embedders on the same faces and writes an HTML page and its JSON.

    The page has, side by side: the file and its size, the crop, the licence verdict of the card,
    the latency of one image; the accuracy over the folds of the official pairs; EER and TAR at FAR
    over all pairs, exact, with intervals over resampled people; the threshold for each FAR; the
    errors by group; with `flip`, error versus discard by utility. A FAR that the number of impostor
    pairs does not support has no number. Each image is embedded once by each embedder.

    Embeddings are kept in a folder beside the page, ``bench.embeddings`` for ``bench.html``: an
    interrupted bench resumes, and a bench with one more embedder embeds with that one only. They
    are biometric data: remove the folder when you no longer need it.

    A ``.onnx`` or ``.tflite`` file runs in its own runtime. Each embedder takes crops of its own
    kind: name a folder of the same images for each. One of SphereFace's 112x96 crop also takes
    ArcFace's 112x112 crops, without their outer columns.

    Args:
        output: the page, ``*.html``. The JSON is beside it.
        models: embedders as `open_embedder` takes or returns them: a list, or a dict of name ->
            embedder.
        images: folder of aligned crops, a folder for each person; or several such folders, of the
            same images in other crops. An image that one of them does not have is left out.
        pairs: LFW's ``pairs.txt``, or None. A listed image that is missing counts as a failure to
            enrol: its pairs are rejected.
        groups: CSV file of groups, as `keras_facemargin.evaluate.uncertainty.read_groups_of_images`
            takes it, or None.
        flip: whether to append the mirror image's embedding. The latency is that of one image.
        crop, pixels: as `open_embedder`, for every file that does not state them; or a dict of
            embedder's name or path -> its crop or its pixels.
        replicates, seed, progress: as `report_verification`.

    Returns:
        A dict of embedder's name -> `Benched`.

    Raises:
        ValueError: if no embedder is given, two have one name, one takes another crop than the
            images, or a file breaks its format; else as `open_embedder` and `embed`.
        OSError: if a file cannot be read or written.
        ImportError: if matplotlib or a runtime is missing.

    Example:
        >>> from keras_facemargin.images.synthetic import write_synthetic_faces
        >>> _ = write_synthetic_faces("faces", 6, 3)
        >>> def colours(images):
        ...     return images[:, ::28, ::28].reshape(len(images), -1)
        >>> found = bench("bench.html", {"colours": colours}, "faces", replicates=20,
        ...               progress=False)
        >>> found["colours"].all_pairs.result.impostors
        135
    """
    output = page_file(output)
    named = models if isinstance(models, Mapping) else _named(models)
    require_embedders(named, "models")
    faces = BenchFaces.read(images, pairs, groups)
    opener = Opener(named, crop, pixels)
    described = machine()
    # All are opened first: a bad file stops the bench before minutes of work.
    facts = {name: opener.facts(name, faces) for name in named}
    embeddings = embed_faces(
        {name: each.embedder for name, each in facts.items()},
        faces,
        output.with_suffix(EMBEDDINGS),
        flip=flip,
        progress=progress,
    )
    page = BenchPage(Resampling(replicates, seed, progress), faces, facts, described, flip=flip)
    title = f"Bench on {Path(os.path.abspath(faces.paths[0])).parents[1].name}"
    mirrored = (
        "The embedding of the mirror image is appended."
        if flip
        else "Each image is embedded alone, without its mirror image, as applications do."
    )
    found = page.write(output, embeddings, title=title, about=[mirrored])
    return {
        name: Benched(facts[name], measured, page.official.get(name))
        for name, measured in found.items()
    }


def _named(models: Sequence[Model | Embedder]) -> dict[str, Model | Embedder]:
    """Name -> embedder: the name of its file, or all of the path if two have one name."""
    texts = [getattr(model, "name", None) or str(model) for model in models]
    if len({*texts}) < len(texts):
        raise ValueError(f"Each embedder must be named once. Received: {', '.join(texts)}")
    short = [Path(text).name for text in texts]
    return dict(zip(short if len({*short}) == len(texts) else texts, models, strict=True))


def terminal_table(found: Mapping[str, Benched]) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) of the facts, measures and thresholds as text."""
    models = {name: each.all_pairs for name, each in found.items()}
    headers, measures = measures_table({name: each.measures for name, each in models.items()})
    return headers, [
        *facts_table({name: each.facts for name, each in found.items()}),
        *measures,
        *([f"Threshold @ FAR {far}", *cells] for far, *cells in thresholds_table(models)),
    ]
