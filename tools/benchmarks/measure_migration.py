"""The tables of docs/gallery.md: what a migration costs, and the FPIR of galleries of N people.

    python tools/benchmarks/measure_migration.py --fitted celeb2/train --tested lfw/aligned \
        --model spherenet_distilled mobilefacenet_foamliu --embeddings embeddings

Maps are fitted on every second person of the first folder, and judged on the first 4,000 crops of
the second one, in the order of their names, as `facemargin gallery migrate` does it. FPIR: one crop
of each person of the second folder; the threshold has the false accept rate on all pairs of them;
galleries are drawn at random, and the people who are not in one are its probes. The embeddings of a
model are kept, so that a stopped run continues with the next one. Two files are written to
`--output`: migration.csv and fpir.csv.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from rich.console import Console
from side_by_side import append_rows

from keras_facemargin.evaluate import embed
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.saved import read_embeddings, save_embeddings
from keras_facemargin.gallery import expected_fpir, fit_migration, price
from keras_facemargin.zoo import open_embedder

JUDGED = 4_000
CASES = ((1e-3, 100), (1e-3, 1_000), (1e-4, 100), (1e-4, 1_000), (1e-5, 1_000), (1e-5, 2_500))
DRAWS = 20

console = Console()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--fitted", type=Path, required=True, help="crops, a folder each person")
    parser.add_argument("--tested", type=Path, required=True, help="crops of other people")
    parser.add_argument("--model", nargs="+", required=True, help="as open_embedder takes it")
    parser.add_argument("--embeddings", type=Path, required=True, help="folder to keep them in")
    parser.add_argument("--output", type=Path, default=Path("zoo/results"))
    parser.add_argument("--most", type=int, help="people of each folder, for a trial")
    options = parser.parse_args(arguments)

    people = folders(options.fitted)[::2][: options.most]
    others = folders(options.tested)[: options.most]
    fitted = [crop for person in people for crop in crops(person)]
    one_each = [crops(person)[0] for person in others]
    judged = [crop for person in others for crop in crops(person)][:JUDGED]
    options.embeddings.mkdir(parents=True, exist_ok=True)
    options.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for model in options.model:
        embedder = open_embedder(model)
        rows = {
            name: embedded(embedder, files, options.embeddings / f"{embedder.name}.{name}.npz")
            for name, files in (("fitted", fitted), ("judged", judged), ("one_each", one_each))
        }
        found[embedder.name] = embedder.id_of(mirrored=True), rows
        for row in fpir_rows(embedder.name, rows["one_each"]):
            console.print(row)
            append_rows(options.output / "fpir.csv", [row])
    names = np.unique([crop.parent.name for crop in judged], return_inverse=True)[1]
    for (old, (old_id, a)), (new, (new_id, b)) in itertools.permutations(found.items(), 2):
        migration = fit_migration(a["fitted"], b["fitted"], old_id=old_id, new_id=new_id)
        cost = price(migration, a["judged"], b["judged"], people=names).price
        row = {"old": old, "new": new, "fitted": len(fitted), **vars(cost), "works": cost.works}
        console.print(row)
        append_rows(options.output / "migration.csv", [row])


def folders(root):
    return sorted(each for each in root.iterdir() if each.is_dir())


def crops(person):
    return sorted(person.glob("*.jpg"))


def embedded(embedder, files, kept):
    """The embeddings of the files, with those of the mirror images."""
    if not kept.exists():
        rows, id = embed(embedder, files), embedder.id_of(mirrored=True)
        save_embeddings(kept, rows, files, embedding_id=id, model=embedder.name)
    saved = read_embeddings(kept)
    if len(saved.embeddings) != len(files):
        raise SystemExit(f"{kept} has other images. Remove it.")
    return saved.embeddings


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
