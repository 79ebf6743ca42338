"""What quality pooling and attenuation gain on templates built from LFW.

    python tools/benchmarks/measure_pooling.py LFW_FOLDER LANDMARKS_JSONL --output docs

Each person with enough images is split at random into two templates; every pair of templates is a
comparison. This is repeated, and all ways of pooling see the same templates, so that gains are
differences within a repetition. λ = 0 is the mean; it pools where attenuation is measured, whose
ratio 1 changes nothing.

- clean, detector: the images as they are; quality is the face detector's score on the photo;
- images, detector: half of all images, drawn at random, are degraded in one of the ways of
  `facemargin evaluate degraded`. The detector's score is still that of the clean photo, which knows
  nothing of it: a control, in which nothing can be gained but by chance;
- images, resolution: the same images; quality is `pooling_quality`, which galleries use: how many
  pixels between the eyes have detail;
- templates, resolution: half of all templates are degraded as a whole, for attenuation. A template
  has the quality of its best image, and is poor below 0.5, 17.5 pixels.

Features are of unit length. The gain to believe is the last row of each case: λ or the ratio chosen
on one half of the people, the gain taken on the other half. LFW has no videos, so media pooling
cannot be shown on it.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_facemargin.evaluate import all_pairs, embed, roc
from keras_facemargin.images.degrade import KINDS, degrade
from keras_facemargin.images.image import read_face
from keras_facemargin.pooling import attenuate, pool_templates
from keras_facemargin.quality.resolution import effective_resolution, pooling_quality
from keras_facemargin.zoo import load_embedder

LAMBDAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
RATIOS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0)
POOR = 0.5  # the threshold of attenuation
FARS = (1e-3, 1e-4)
CHOSEN_BY = 1e-3  # the rate whose TAR λ and the ratio are chosen by
MEASURES = ("eer", *(f"tar_at_{far:.0e}" for far in FARS))


class Case(NamedTuple):
    """What is degraded, what the quality is, and what is varied: λ or the ratio."""

    degraded: str
    quality: str
    varied: str

    def __str__(self):
        return f"{self.degraded}, {self.quality}"

    @property
    def values(self):
        return LAMBDAS if self.varied == "λ" else RATIOS


CASES = (
    Case("clean", "detector", "λ"),
    Case("images", "detector", "λ"),
    Case("images", "resolution", "λ"),
    Case("templates", "resolution", "ratio"),
)

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
    console.print(f"{len(faces.people):,} people, {len(faces.paths):,} images")
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
        self.people, self.paths, people = [], [], []
        for folder, paths in sorted(folders.items()):
            paths = [path for path in paths if f"{folder.name}/{path.name}" in scores]
            if len(paths) >= options.least:
                people += [len(self.people)] * len(paths)
                self.people.append(folder.name)
                self.paths += paths
        self.person = np.array(people)
        self.detector = np.array([scores[f"{p.parent.name}/{p.name}"] for p in self.paths])

        clean = np.stack([read_face(path) for path in self.paths])
        kinds = rng.choice(KINDS, size=len(clean))
        degraded = np.stack([degrade(face, kind) for face, kind in zip(clean, kinds, strict=True)])
        embedder = load_embedder(options.model)
        self.embeddings, self.resolution = [], []
        for images in (clean, degraded):
            rows = embed(embedder, images)
            self.embeddings.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
            self.resolution.append(pooling_quality(effective_resolution(images)))


def read_scores(file):
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["file"]: line["r"]["score"] for line in lines if line["status"] == "ok"}


def measure(faces, options):
    """For each case an array (repeats, values, half of the people, measures)."""
    cases = {
        case: np.empty((options.repeats, len(case.values), 2, len(MEASURES))) for case in CASES
    }
    for repeat in track(range(options.repeats), "Pooling", console=console, transient=True):
        rng = np.random.default_rng(repeat)
        rows, template = draw_templates(faces.person, options.most, rng)
        half = rng.permutation(len(faces.people)) % 2
        poor = {
            "clean": np.zeros(len(rows), bool),
            "images": rng.random(len(rows)) < options.damaged,
            "templates": (rng.random(template.max() + 1) < options.damaged)[template],
        }
        for case, results in cases.items():
            worse = poor[case.degraded]
            embeddings = np.where(
                worse[:, None], faces.embeddings[1][rows], faces.embeddings[0][rows]
            )
            quality = faces.detector[rows]
            if case.quality == "resolution":
                quality = np.where(worse, faces.resolution[1][rows], faces.resolution[0][rows])
            best = np.zeros(template.max() + 1)  # of each template
            np.maximum.at(best, template, quality)
            for number, value in enumerate(case.values):
                weight, ratio = (value, 1.0) if case.varied == "λ" else (0.0, value)
                pooled, ids = pool_templates(
                    embeddings, template, quality=quality, quality_weight=weight
                )
                for side in (0, 1):
                    chosen = half[ids // 2] == side
                    results[repeat, number, side] = judged(
                        pooled[chosen], ids[chosen] // 2, best[ids[chosen]], ratio
                    )
    return cases


def draw_templates(person, most, rng):
    """Rows of the images used, and the template 2 p or 2 p + 1 of person p that each is in."""
    rows, template = [], []
    for number in range(person.max() + 1):
        images = rng.permutation(np.flatnonzero(person == number))[: 2 * most]
        rows += images.tolist()
        template += (2 * number + np.arange(len(images)) % 2).tolist()
    return np.array(rows), np.array(template)


def judged(templates, people, quality, ratio):
    scores, same = all_pairs(templates, people)
    first, second = np.triu_indices(len(templates), k=1)
    scores = attenuate(scores, quality[first], quality[second], threshold=POOR, ratio=ratio)
    curve = roc(scores, same)
    tars = [curve.tar_at_far(far).tar for far in FARS]
    return [curve.equal_error_rate(), *(np.nan if tar is None else tar for tar in tars)]


def summary(case, results):
    """Means over repetitions of each value, with its gain over the first; then the chosen value."""
    facts = {"case": case, "varied": case.varied, "repeats": len(results)}
    rows = []
    for number, value in enumerate(case.values):
        rows.append(facts | {"value": value, "people": "all"})
        values = results[:, number].mean(axis=1)
        gains = (results[:, number] - results[:, 0]).mean(axis=1)
        for index, name in enumerate(MEASURES):
            rows[-1] |= figures(name, values[:, index], gains[:, index])
    by = MEASURES.index(f"tar_at_{CHOSEN_BY:.0e}")
    best = results[:, :, 0, by].argmax(axis=1)  # on one half ...
    each = np.arange(len(results))
    values = results[each, best, 1]  # ... and its gain on the other
    gains = values - results[:, 0, 1]
    rows.append(facts | {"value": "chosen", "people": "other half"})
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
    result = Table("case", "varied", "value", "EER", *(f"TAR @ {far:g}" for far in FARS), "gain")
    for row in rows:
        name = MEASURES[1]
        result.add_row(
            str(row["case"]),
            row["varied"],
            str(row["value"]),
            *(f"{float(row[measure]):.2%}" for measure in MEASURES),
            f"{100 * float(row[f'{name}_gain']):+.2f} ± {100 * float(row[f'{name}_gain_sd']):.2f}",
        )
    return result


def draw(cases, options):
    """Gain of TAR over the mean, by λ and by the ratio of attenuation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    by = MEASURES.index(f"tar_at_{CHOSEN_BY:.0e}")
    colors = iter(("#0072b2", "#8a8a8a", "#d55e00", "#009e73"))
    for axes, varied in zip(figure.subplots(1, 2), ("λ", "ratio"), strict=True):
        own = {case: results for case, results in cases.items() if case.varied == varied}
        for case, results in own.items():
            color, places = next(colors), np.arange(len(case.values))
            gains = 100 * (results[..., by] - results[:, :1, :, by]).mean(axis=2)
            middle, spread = gains.mean(axis=0), gains.std(axis=0)
            first = 100 * results[:, 0, :, by].mean()
            axes.plot(places, middle, "o-", color=color, label=f"{case} (before: {first:.1f} %)")
            axes.fill_between(
                places, middle - spread, middle + spread, color=color, alpha=0.15, lw=0
            )
            axes.set(xticks=places, xticklabels=[f"{value:g}" for value in case.values])
        axes.axhline(0, color="#222222", linewidth=0.8)
        axes.set(ylabel=f"gain in TAR at FAR {CHOSEN_BY:g}, points")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.axes[0].set(xlabel="λ (0 is the mean)", title="Quality pooling")
    figure.axes[1].set(xlabel="ratio (1 changes nothing)", title="Quality attenuation")
    figure.suptitle(f"{options.repeats} draws of LFW templates")
    return figure


if __name__ == "__main__":
    main()
