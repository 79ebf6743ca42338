"""Draws docs/quality_edc.png and docs/quality_degraded.png, writes zoo/results/degraded.csv.

    facemargin evaluate lfw --lists LFW --images CROPS --on-missing reject --report edc.html
    facemargin evaluate degraded --images CROPS --report degraded.html
    facemargin evaluate degraded --images CROPS --people 600 --model MODEL --output OUT
    python tools/figures/draw_quality.py degraded.json [OUT/results.json ...] --curves edc.json

The first file of degraded faces is drawn; all are in the table, where the rows of other embedders
stay. Without --curves docs/quality_edc.png stays.
"""

import argparse
import csv
import json
from pathlib import Path

from keras_facemargin.evaluate.degraded import Damage, Degraded
from keras_facemargin.evaluate.discard import ErrorVersusDiscard
from keras_facemargin.evaluate.plots import plot_degraded, plot_error_versus_discard
from keras_facemargin.evaluate.uncertainty import Interval

FIELDS = (
    *("embedder", "people", "threshold", "far", "crops", "both"),
    *("impostors", "false_accepts", "genuines", "false_rejects"),
    *("answered_impostors", "answered_false_accepts"),
    *("answered_genuines", "answered_false_rejects"),
)
CHECKOUT = Path(__file__).resolve().parents[2]


def read_curves(file):
    """Name of a quality -> `ErrorVersusDiscard` of the first embedder of a page."""
    (first, *_) = json.loads(file.read_text())["models"].values()
    curves = {}
    for name, found in first["error_versus_discard"].items():
        found["fnmr_intervals"] = tuple(Interval(**each) for each in found["fnmr_intervals"])
        found["area_interval"] = Interval(**found["area_interval"])
        curves[name] = ErrorVersusDiscard(**found)
    return curves


def read_degraded(file):
    """Embedder -> `Degraded`, from the JSON of a page or from results.json."""
    record = json.loads(file.read_text())
    models = record.get("models") or {Path(record["model"]).name: record}
    fields = Degraded.__dataclass_fields__
    return {
        name: Degraded(
            **{key: found[key] for key in fields if key != "columns"},
            columns=tuple(Damage(**each) for each in found["columns"]),
        )
        for name, found in models.items()
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="JSON of degraded faces")
    parser.add_argument("--curves", type=Path, help="JSON of a report on a list of pairs")
    options = parser.parse_args(arguments)
    results = {}
    for file in options.files:
        results |= read_degraded(file)
    if options.curves is not None:
        figure = plot_error_versus_discard(read_curves(options.curves))
        figure.savefig(CHECKOUT / "docs" / "quality_edc.png", dpi=110)
    drawn = next(iter(results.values()))
    plot_degraded(drawn).savefig(CHECKOUT / "docs" / "quality_degraded.png", dpi=110)
    file = CHECKOUT / "zoo" / "results" / "degraded.csv"
    with file.open(newline="") as stream:
        others = [row for row in csv.reader(stream) if row[0] not in {FIELDS[0], *results}]
    with file.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(FIELDS)
        table.writerows(others)
        for name, found in results.items():
            for each in found.columns:
                table.writerow(
                    [
                        *(name, found.people, f"{found.threshold:.6f}", found.far),
                        *(each.kind, each.both, each.impostors, each.false_accepts),
                        *(each.genuines, each.false_rejects, each.answered_impostors),
                        *(each.answered_false_accepts, each.answered_genuines),
                        each.answered_false_rejects,
                    ]
                )


if __name__ == "__main__":
    main()
