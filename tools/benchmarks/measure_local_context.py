"""Measures whether scores that know their local context lower the spread of FMR between groups.

    python tools/benchmarks/measure_local_context.py zoo/results/local_context.csv \\
        --data ../shared/data --work WORK spherenet_distilled weights/foamliu_MobileFaceNet.onnx

Each score replaces the cosine s of two images a and b. m and d are the mean and the deviation of
the cosines of an image with its context in a cohort of strangers.

- `s_norm`: ((s - m_a) / d_a + (s - m_b) / d_b) / 2, with the whole cohort.
- `as_norm`: the same with the K cohort images most similar to each.
- `shift`: s - (m_a + m_b) / 2, with these K.
- `fair_cal`: Salvador et al., arXiv:2106.03761. k-means clusters the cohort; in each cluster a
  logistic map is fitted to labelled pairs of CelebA with an image there; the mean of the two maps'
  probabilities.

Impostor pairs are those within the groups of UTKFace, genuine pairs those of CelebA, as in
write_groups.py. Every score has the TAR of the cosine whose FMR over the groups is 1 %. Intervals
are over 300 draws of people, at fixed thresholds. A cohort image nearer than cosine 0.6 to a test
image is left out: it may show the same person.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from keras_facemargin import zoo
from keras_facemargin.bench.embedding import embed_faces
from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.evaluate import interval
from keras_facemargin.evaluate.verification import fit_logistic, threshold_at_far
from keras_facemargin.images import Crop

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "assets"))
from calibration_crops import calibration_crops
from write_groups import chosen_pairs

FIELDS = (
    *("embedder", "score", "setting", "tar", "fmr", "lowest", "highest", "ratio", "gini"),
    *("gini_change_low", "gini_change_high"),
)
NEAREST = (20, 100, 400)
CLUSTERS = (10, 30)
DRAWS = 300
COPY = 0.6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("models", nargs="+", help="names or files of embedders of the zoo")
    parser.add_argument("--data", type=Path, required=True, help="folder with groups/ and celeb2/")
    parser.add_argument("--work", type=Path, required=True, help="folder of the embeddings")
    options = parser.parse_args()
    groups = options.data / "groups"
    crops = calibration_crops(options.data)[:2048]  # of 512 people
    sets = {
        "test": BenchFaces.read(groups / "faces", groups=groups / "groups.csv"),
        "cohort": as_faces(sorted((options.data / "celeb2/unlabelled").glob("*/*.jpg"))[::5]),
        "labelled": as_faces(crops),
    }
    people = np.unique([path.parent.name for path in crops], return_inverse=True)[1]
    rows = []
    for model in options.models:
        embedder = zoo.open_embedder(model)
        test, cohort, labelled = (
            units(
                embed_faces({"it": embedder}, faces, options.work, flip=True, progress=True)["it"]
            )
            for faces in sets.values()
        )
        cohort = cohort[(cohort @ test.T).max(axis=1) < COPY]
        print(embedder.name, len(cohort), "cohort images", flush=True)
        for row in measure(Pairs(sets["test"], test), cohort, labelled, people):
            rows.append({"embedder": embedder.name} | row)
            print(*rows[-1].values(), flush=True)
        with options.output.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, FIELDS, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


def as_faces(paths):
    return BenchFaces({Crop.of(): paths}, [path.stem for path in paths], 0, None, {})


def units(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Pairs:
    """The test pairs of one embedder: impostors with their groups, and genuine pairs."""

    def __init__(self, faces, rows):
        self.rows = rows
        self.first, self.second, group = chosen_pairs(faces)
        people = np.unique(faces.people, return_inverse=True)[1]
        self.people = people[self.first], people[self.second]
        self.same = self.people[0] == self.people[1]
        self.names, self.group = np.unique(group[~self.same], return_inverse=True)
        self.cosines = np.einsum("nd,nd->n", rows[self.first], rows[self.second])
        rng = np.random.default_rng(0)
        units = people.max() + 1
        self.draws = rng.multinomial(units, np.full(units, 1 / units), size=DRAWS)

    def rates(self, scores, tar):
        """The FMR of each group at the highest threshold with this TAR, and in every draw."""
        genuine = np.sort(scores[self.same])[::-1]
        accepted = scores[~self.same] >= genuine[round(tar * len(genuine)) - 1]
        first, second = (side[~self.same] for side in self.people)
        fmr = np.bincount(self.group, accepted) / np.bincount(self.group)
        drawn = []
        for times in self.draws:
            weights = times[first] * times[second]
            drawn.append(
                np.bincount(self.group, accepted * weights) / np.bincount(self.group, weights)
            )
        return fmr, np.array(drawn)


def measure(pairs, cohort, labelled, people):
    """A row for each score."""
    cosines = pairs.cosines
    tar = float(np.mean(cosines[pairs.same] >= threshold_at_far(cosines[~pairs.same], 1e-2)))
    base = gini(pairs.rates(cosines, tar)[1])
    for name, setting, scores in every_score(pairs, cohort, labelled, people):
        fmr, drawn = pairs.rates(scores, tar)
        ends = interval(gini(drawn) - base)
        yield {
            "score": name,
            "setting": setting,
            "tar": f"{tar:.4f}",
            "fmr": f"{fmr.mean():.5f}",
            "lowest": f"{pairs.names[fmr.argmin()]} {fmr.min():.5f}",
            "highest": f"{pairs.names[fmr.argmax()]} {fmr.max():.5f}",
            "ratio": f"{fmr.max() / fmr.min():.2f}" if fmr.min() else "",
            "gini": f"{gini(fmr[None])[0]:.3f}",
            "gini_change_low": f"{ends.low:.3f}",
            "gini_change_high": f"{ends.high:.3f}",
        }


def gini(rates):
    """The Gini coefficient of each row, as `fmr_spread`."""
    count = rates.shape[1]
    differences = np.abs(rates[:, :, None] - rates[:, None]).sum(axis=(1, 2))
    return differences / (2 * (count - 1) * rates.sum(axis=1))


def every_score(pairs, cohort, labelled, people):
    """(name, setting, scores)"""
    cosines, first, second = pairs.cosines, pairs.first, pairs.second
    yield "cosine", "", cosines
    near = -np.sort(-(pairs.rows @ cohort.T), axis=1)
    for count in (len(cohort), *NEAREST):
        mean, deviation = near[:, :count].mean(axis=1), near[:, :count].std(axis=1)
        normed = [(cosines - mean[side]) / deviation[side] for side in (first, second)]
        name = "s_norm" if count == len(cohort) else "as_norm"
        yield name, f"K={count}", sum(normed) / 2
    for count in NEAREST:
        mean = near[:, :count].mean(axis=1)
        yield "shift", f"K={count}", cosines - (mean[first] + mean[second]) / 2
    for count in CLUSTERS:
        yield "fair_cal", f"K={count}", fair_cal(pairs, cohort, labelled, people, count)


def fair_cal(pairs, cohort, labelled, people, count):
    """The mean of the probabilities of the clusters of the two images."""
    clusters = KMeans(count, n_init=1, random_state=0).fit(cohort)
    of_test, of_labelled = (clusters.predict(rows) for rows in (pairs.rows, labelled))
    members = np.split(np.argsort(people, kind="stable"), np.cumsum(np.bincount(people))[:-1])
    genuine = np.concatenate([one[np.stack(np.triu_indices(len(one), k=1))] for one in members], 1)
    drawn = np.random.default_rng(0).integers(0, len(people), (2, 1_000_000))
    drawn = drawn[:, people[drawn[0]] != people[drawn[1]]]
    first, second = np.concatenate([genuine, drawn], axis=1)
    scores = np.einsum("nd,nd->n", labelled[first], labelled[second])
    same = people[first] == people[second]
    everywhere = fit_logistic(scores, same)
    maps = []
    for cluster in range(count):
        here = (of_labelled[first] == cluster) | (of_labelled[second] == cluster)
        try:
            maps.append(fit_logistic(scores[here], same[here]))
        except ValueError:  # too few labelled pairs in the cluster
            maps.append(everywhere)
    slopes, intercepts = (
        np.array([getattr(m, part) for m in maps]) for part in ("slope", "intercept")
    )
    ratios = [
        slopes[of_test[side]] * pairs.cosines + intercepts[of_test[side]]
        for side in (pairs.first, pairs.second)
    ]
    return sum(1 / (1 + np.exp(-each)) for each in ratios) / 2


if __name__ == "__main__":
    main()
