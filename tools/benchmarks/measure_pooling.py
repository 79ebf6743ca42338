"""What quality pooling gains over the plain mean, on templates built from LFW, as λ varies.

    python tools/benchmarks/measure_pooling.py LFW_FOLDER LANDMARKS_JSONL --output docs

Each person with enough images is split at random into two templates; every pair of templates is a
comparison. This is repeated, and all ways of pooling see the same templates, so that gains are
differences within a repetition. λ = 0 is the mean.

Three cases:

- clean, detector: the images as they are; quality is the face detector's score on the photo;
- degraded, detector: some images of each template are shrunk to a few pixels and enlarged again.
  The detector's score is still that of the clean photo, which knows nothing of it: a control, in
  which nothing can be gained but by chance;
- degraded, sharpness: the same images; quality is the share of reference images (clean, of people
  who are in no template) that are less sharp, sharpness being the variance of the Laplacian of the
  luminance. A simple measure that happens to fit this damage: an upper estimate of what a general
  one would find.

Features are of unit length. The gain to believe is the last row of each case: λ chosen on one half
of the people, the gain taken on the other half. LFW has no videos, so media pooling cannot be shown
on it.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_facemargin.evaluate import all_pairs, embed, roc
from keras_facemargin.images.image import read_face
from keras_facemargin.pooling import pool_templates
from keras_facemargin.zoo import load_embedder

LAMBDAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
FARS = (1e-3, 1e-4)
CHOSEN_BY = 1e-3  # the rate whose TAR λ is chosen by
SHRUNK_TO = (12, 16, 24)  # pixels a side, of 112
MEASURES = ("eer", *(f"tar_at_{far:.0e}" for far in FARS))

console = Console()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("images", type=Path, help="aligned crops, one folder a person")
    parser.add_argument("landmarks", type=Path, help="JSON lines with `file` and `r.score`")
    parser.add_argument("--model", default="spherenet_distilled")
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--least", type=int, default=4, help="images of a person in templates")
    parser.add_argument("--most", type=int, default=8, help="images of a template")
    parser.add_argument("--damaged", type=float, default=0.5, help="share of images, if degraded")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)

    faces = Faces(options)
    console.print(
        f"{len(faces.people):,} people, {len(faces.paths):,} images; "
        f"{len(faces.reference):,} reference images of others"
    )
    cases = measure(faces, options)
    rows = [row for case, results in cases.items() for row in summary(case, results)]
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "pooling.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    draw(cases, options).savefig(options.output / "pooling.png", dpi=130)
    console.print(table(rows))
    console.print(f"{options.output}/pooling.csv, pooling.png")


class Faces:
    """Images of people with enough of them: embeddings and qualities, clean and degraded."""

    def __init__(self, options):
        rng = np.random.default_rng(0)
        scores = read_scores(options.landmarks)
        folders = {folder: sorted(folder.glob("*.jpg")) for folder in options.images.iterdir()}
        self.people, self.paths, self.reference, people = [], [], [], []
        for folder, paths in sorted(folders.items()):
            paths = [path for path in paths if f"{folder.name}/{path.name}" in scores]
            if len(paths) < options.least:
                self.reference += paths
                continue
            people += [len(self.people)] * len(paths)
            self.people.append(folder.name)
            self.paths += paths
        self.person = np.array(people)
        self.reference = self.reference[: 2 * len(self.paths)]
        names = [f"{path.parent.name}/{path.name}" for path in self.paths]
        self.detector = np.array([scores[name] for name in names])

        clean = np.stack([read_face(path) for path in self.paths])
        sizes = rng.choice(SHRUNK_TO, size=len(clean))
        degraded = np.stack([shrunk(face, size) for face, size in zip(clean, sizes, strict=True)])
        known = np.sort([sharpness(read_face(path)) for path in self.reference])
        embedder = load_embedder(options.model)
        self.embeddings, self.sharpness = [], []
        for images in (clean, degraded):
            rows = embed(embedder, images)
            self.embeddings.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
            rank = np.searchsorted(known, [sharpness(face) for face in images])
            self.sharpness.append((rank + 0.5) / (len(known) + 1))


def read_scores(file):
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["file"]: line["r"]["score"] for line in lines if line["status"] == "ok"}


def shrunk(face, size):
    image = Image.fromarray(face)
    small = image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def sharpness(face):
    """Variance of the Laplacian of the luminance, on the middle of the crop."""
    grey = np.asarray(Image.fromarray(face).convert("L"), np.float64)[16:96, 16:96]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.var(edges - 4 * grey[1:-1, 1:-1]))


def measure(faces, options):
    """For each case an array (repeats, λ, half of the people, measures)."""
    shape = (options.repeats, len(LAMBDAS), 2, len(MEASURES))
    names = ("clean, detector", "degraded, detector", "degraded, sharpness")
    cases = {name: np.empty(shape) for name in names}
    for repeat in track(range(options.repeats), "Pooling", console=console, transient=True):
        rng = np.random.default_rng(repeat)
        rows, template = draw_templates(faces.person, options.most, rng)
        half = rng.permutation(len(faces.people)) % 2
        damaged = (rng.random(len(rows)) < options.damaged).astype(int)
        for name, results in cases.items():
            poor = damaged if name.startswith("degraded") else 0 * damaged
            embeddings = np.where(
                poor[:, None], faces.embeddings[1][rows], faces.embeddings[0][rows]
            )
            quality = faces.detector[rows]
            if name.endswith("sharpness"):
                quality = np.where(poor, faces.sharpness[1][rows], faces.sharpness[0][rows])
            for number, lam in enumerate(LAMBDAS):
                pooled, ids = pool_templates(
                    embeddings, template, quality=quality, quality_weight=lam
                )
                for side in (0, 1):
                    chosen = half[ids // 2] == side
                    results[repeat, number, side] = judged(pooled[chosen], ids[chosen] // 2)
    return cases


def draw_templates(person, most, rng):
    """Rows of the images used, and the template 2 p or 2 p + 1 of person p that each is in."""
    rows, template = [], []
    for number in range(person.max() + 1):
        images = rng.permutation(np.flatnonzero(person == number))[: 2 * most]
        rows += images.tolist()
        template += (2 * number + np.arange(len(images)) % 2).tolist()
    return np.array(rows), np.array(template)


def judged(templates, people):
    curve = roc(*all_pairs(templates, people))
    tars = [curve.tar_at_far(far).tar for far in FARS]
    return [curve.equal_error_rate(), *(np.nan if tar is None else tar for tar in tars)]


def summary(case, results):
    """Means over repetitions of each λ, with its gain over the mean; then the chosen λ."""
    rows = []
    for number, lam in enumerate(LAMBDAS):
        rows.append({"case": case, "lam": lam, "people": "all", "repeats": len(results)})
        values = results[:, number].mean(axis=1)
        gains = (results[:, number] - results[:, 0]).mean(axis=1)
        for index, name in enumerate(MEASURES):
            rows[-1] |= figures(name, values[:, index], gains[:, index])
    by = MEASURES.index(f"tar_at_{CHOSEN_BY:.0e}")
    best = results[:, :, 0, by].argmax(axis=1)  # on one half ...
    each = np.arange(len(results))
    values = results[each, best, 1]  # ... and its gain on the other
    gains = values - results[:, 0, 1]
    rows.append({"case": case, "lam": "chosen", "people": "other half", "repeats": len(results)})
    for index, name in enumerate(MEASURES):
        rows[-1] |= figures(name, values[:, index], gains[:, index])
    return rows


def figures(name, values, gains):
    return {
        name: f"{values.mean():.5f}",
        f"{name}_gain": f"{gains.mean():+.5f}",
        f"{name}_gain_sd": f"{gains.std(ddof=1) if len(gains) > 1 else 0.0:.5f}",
    }


def table(rows):
    result = Table("case", "λ", "EER", *(f"TAR @ {far:g}" for far in FARS), "gain over the mean")
    for row in rows:
        name = MEASURES[1]
        result.add_row(
            row["case"],
            str(row["lam"]),
            *(f"{float(row[measure]):.2%}" for measure in MEASURES),
            f"{100 * float(row[f'{name}_gain']):+.2f} ± {100 * float(row[f'{name}_gain_sd']):.2f}",
        )
    return result


def draw(cases, options):
    """Gain of TAR over the mean, by λ."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    by = MEASURES.index(f"tar_at_{CHOSEN_BY:.0e}")
    places = np.arange(len(LAMBDAS))
    colors = ("#0072b2", "#8a8a8a", "#d55e00")
    for color, (case, results) in zip(colors, cases.items(), strict=True):
        gains = 100 * (results[..., by] - results[:, :1, :, by]).mean(axis=2)
        middle, spread = gains.mean(axis=0), gains.std(axis=0)
        mean = 100 * results[:, 0, :, by].mean()
        axes.plot(places, middle, "o-", color=color, label=f"{case} (mean pooling {mean:.1f} %)")
        axes.fill_between(places, middle - spread, middle + spread, color=color, alpha=0.15, lw=0)
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set(
        xticks=places,
        xticklabels=[f"{lam:g}" for lam in LAMBDAS],
        xlabel="λ (0 is the mean)",
        ylabel=f"gain in TAR at FAR {CHOSEN_BY:g}, points",
        title=f"Quality pooling against the mean, {options.repeats} draws of LFW templates",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False)
    return figure


if __name__ == "__main__":
    main()
