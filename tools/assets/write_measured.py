"""Writes a protocol's measured figures, or calibrated thresholds, into a card of the zoo.

    facemargin evaluate lfw --lists LFW --images CROPS --on-missing reject --model NAME --output OUT
    python tools/assets/write_measured.py NAME --results OUT/results.json --notes "..."

    facemargin calibrate FACES --model NAME --output CALIBRATED
    python tools/assets/write_measured.py NAME --thresholds CALIBRATED/card.json

Run `tools/assets/write_zoo_readme.py` afterwards.
"""

import argparse
import importlib
import json
from pathlib import Path

import keras

from keras_facemargin import zoo


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", help="name in the zoo")
    parser.add_argument("--results", type=Path, help="results.json of `facemargin evaluate`")
    parser.add_argument("--notes", default="", help="conditions of the figures")
    parser.add_argument("--thresholds", type=Path, help="card.json of `facemargin calibrate`")
    options = parser.parse_args()
    file = zoo.DIRECTORY / options.name / zoo.CARD
    card = zoo.read_card(file)
    if options.results is not None:
        results = json.loads(options.results.read_text(encoding="utf-8"))
        card = with_results(card, results, options.notes)
    if options.thresholds is not None:
        card = card.changed(thresholds=zoo.read_card(options.thresholds).thresholds)
    zoo.write_card(file, card)


def with_results(card, results, notes):
    """The card with the figures of a results.json in place of older ones of the same kind."""
    new = zoo.Measured(
        protocol=results["protocol"],
        mirrored=results["flip"],
        accuracy=results["accuracy"],
        standard_error=results["standard_error"],
        interval=interval_of(results),
        tar_at_far={
            f"{one['target']:.0e}".replace("e-0", "e-"): one["tar"]
            for one in results["tar_at_far"]
            if one["tar"] is not None
        },
        eer=results["eer"],
        auc=results["auc"],
        pairs=results["genuine_pairs"] + results["impostor_pairs"],
        failed_to_enrol=results["failed_to_enrol"],
        command=(
            f"facemargin evaluate {results['protocol']} --lists LISTS --images CROPS "
            f"--on-missing reject --{'flip' if results['flip'] else 'no-flip'} --model {card.name}"
        ),
        versions=versions(),
        seeds=(),
        notes=notes,
    )
    kept = [
        one for one in card.measured if (one.protocol, one.mirrored) != (new.protocol, new.mirrored)
    ]
    ordered = sorted((*kept, new), key=lambda one: (one.protocol, not one.mirrored))
    return card.changed(measured=tuple(ordered))


def interval_of(results):
    """The interval of the accuracy over people; None if people were not drawn."""
    intervals = results.get("intervals", {})
    over_people = intervals.get("resampled") == "identities"
    return tuple(intervals["accuracy"]) if over_people else None


def versions():
    """Versions of the packages that run the embedder."""
    names = ("keras_facemargin", "keras", "numpy", keras.backend.backend())
    return {name: importlib.import_module(name).__version__ for name in names}


if __name__ == "__main__":
    main()
