"""The tables of docs/gallery.md: what a migration costs, and the FPIR of galleries of N people.

    python tools/benchmarks/measure_migration.py --data ../shared/data --work WORK \\
        spherenet_distilled MobileFaceNet.tflite

Maps between each two of the models are fitted on the 8,840 crops of CelebA that the thresholds of
the cards are calibrated on, and judged on LFW by the functions of `facemargin gallery migrate`: on
the first 4,000 crops in the order of their names, at most ten of a person, or the pairs of one
person would be half of the genuine ones. FPIR: one crop of each person of LFW; the threshold has
the false accept rate on all pairs of them; galleries are drawn at random, and the people who are
not in one are its probes. WORK keeps the embeddings, as that of write_groups.py does: an
interrupted run resumes. Rows that migration.csv and fpir.csv have are not measured again.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from run_rows import add_rows, has_run

from keras_facemargin.bench.embedding import embed_faces
from keras_facemargin.bench.faces import BenchFaces
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.gallery import expected_fpir, fit_migration, price
from keras_facemargin.images import Crop
from keras_facemargin.zoo import open_embedder

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "assets"))
from calibration_crops import calibration_crops

JUDGED, OF_A_PERSON = 4_000, 10
CASES = ((1e-3, 100), (1e-3, 1_000), (1e-4, 100), (1e-4, 1_000), (1e-5, 1_000), (1e-5, 2_500))
DRAWS = 20
MIGRATION = (
    *("old", "new", "fitted", "target", "old_tar", "new_tar", "mapped_tar", "mapped_far"),
    *("people", "genuine_pairs", "impostor_pairs", "works"),
)
FPIR = ("model", "far", "people", "expected_fpir", "fpir", "lowest", "highest", "draws", "probes")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names or files of embedders of the zoo")
    parser.add_argument("--data", type=Path, required=True, help="folder with celeb2/ and lfw/")
    parser.add_argument("--work", type=Path, required=True, help="folder of the embeddings")
    parser.add_argument("--output", type=Path, default=Path("zoo/results"))
    options = parser.parse_args(arguments)

    fitted = calibration_crops(options.data)
    people = [
        sorted(each.glob("*.jpg")) for each in sorted((options.data / "lfw/aligned").iterdir())
    ]
    firsts = {crops[0] for crops in people}
    judged = [crop for crops in people for crop in crops][:JUDGED]
    few = {crop for crops in people for crop in crops[:OF_A_PERSON]}
    tested = [*judged, *sorted(firsts - {*judged})]
    of_firsts = np.array([place for place, crop in enumerate(tested) if crop in firsts])
    of_judged = np.array([place for place, crop in enumerate(judged) if crop in few])
    names = np.unique([judged[place].parent.name for place in of_judged], return_inverse=True)[1]
    found = {}
    for model in options.models:
        embedder = open_embedder(model)
        on_fitted, on_tested = (
            embed_once(embedder, each, options.work) for each in (fitted, tested)
        )
        found[embedder.name] = on_fitted, on_tested[of_judged]
        if not has_run(options.output / "fpir.csv", model=embedder.name):
            rows = fpir_rows(embedder.name, on_tested[of_firsts])
            add_rows(options.output / "fpir.csv", FPIR, rows)
    for (old, a), (new, b) in itertools.permutations(found.items(), 2):
        if has_run(options.output / "migration.csv", old=old, new=new):
            continue
        migration = fit_migration(a[0], b[0], old_id=old, new_id=new)
        cost = price(migration, a[1], b[1], people=names).price
        row = {"old": old, "new": new, "fitted": len(fitted), **rounded(cost), "works": cost.works}
        print(old, new, cost, cost.works)
        add_rows(options.output / "migration.csv", MIGRATION, [row])


def rounded(cost):
    """Its values, rates with three digits."""
    return {
        name: f"{value:.3g}" if isinstance(value, float) else value
        for name, value in vars(cost).items()
    }


def embed_once(embedder, files, work):
    """The embeddings of the files, with those of the mirror images."""
    faces = BenchFaces({Crop.of(): files}, [file.parent.name for file in files], 0, None, {})
    return embed_faces({"it": embedder}, faces, work, flip=True, progress=True)["it"]


def fpir_rows(model, rows):
    """The share of strangers whom at least one person of a gallery accepts."""
    units = unit_rows(rows, model).astype("float32")
    cosines = units @ units.T
    strangers = np.sort(cosines[np.triu_indices(len(units), 1)])[::-1]
    for far, people in CASES:
        if people >= len(units) or far * len(strangers) < 1:
            continue
        threshold = strangers[round(far * len(strangers)) - 1]
        rng, rates = np.random.default_rng(0), []
        for _ in range(DRAWS):
            order = rng.permutation(len(units))
            gallery, probes = order[:people], order[people:]
            rates.append((cosines[np.ix_(probes, gallery)].max(axis=1) >= threshold).mean())
        yield {
            "model": model,
            "far": far,
            "people": people,
            "expected_fpir": f"{expected_fpir(far, people):.4f}",
            "fpir": f"{np.mean(rates):.4f}",
            "lowest": f"{min(rates):.4f}",
            "highest": f"{max(rates):.4f}",
            "draws": DRAWS,
            "probes": len(units) - people,
        }


if __name__ == "__main__":
    main()
