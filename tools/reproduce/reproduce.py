"""Repeats the experiments of the five papers on a small set of real faces.

    python tools/reproduce/reproduce.py cosface --data ../shared/data --work ~/reproduce

Trains each setting of a paper (`studies.py`) with each seed, by `facemargin train` from a recipe in
`zoo/recipes`, and adds a row to `zoo/results/reproduce.csv` (`measure.py` has its columns).
Finished runs are skipped, those for another paper too, and a run that was stopped continues. The
same command may run twice at once: a run that one process trains the other skips. WORK has the
small crops and the folder of each run. `tables.py` makes the tables and figures of the docs
from the rows.
"""

import argparse
import csv
import hashlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import crops
import keras
from measure import COLUMNS, Tests, measure
from rich.console import Console
from studies import RECIPES, RESULTS, SEEDS, STUDIES, chosen

from keras_facemargin.files import exclusive

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from run_rows import add_rows, has_run, read_rows

CORRECTIONS = RESULTS.with_name("reproduce_labels.csv")
FIELDS = ("recipe", "changes", "seed", "loss", "accuracy", *COLUMNS, "cpu_seconds")
console = Console()


def main(arguments=None):
    options = read_options(arguments)
    os.nice(10)
    faces, lfw = options.work / "faces", options.work / "lfw"
    teacher = options.teacher or options.data / "weights" / "foamliu_mobilefacenet.pt"
    test = options.data / "lfw" / "aligned"
    every = crops.cleaned_crops(options.data, teacher, test, options.corrections)
    crops.write_training_crops(every, faces)
    crops.write_test_crops(test, lfw)
    tests = Tests.read(options.data / "lfw", lfw, faces)
    for place, setting, seed in runs_of(STUDIES[options.paper], options.seeds, options.results):
        key = key_of(setting, seed)
        run = options.work / "runs" / run_name(key)
        try:
            with exclusive(run.with_name(f"{run.name}-row")):
                if has_run(options.results, **key):
                    continue
                console.print(f"{place}: {' '.join(map(str, key.values()))}")
                row = row_of(key, setting, run, faces, tests)
                add_rows(options.results, FIELDS, [row])
                console.print(row)
        except BlockingIOError:
            continue  # another process trains it
        # Not before: a run that is whole is not trained again if its measuring was stopped.
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        (run / "classifier.keras").unlink(missing_ok=True)


def runs_of(study, seeds, results):
    """(place, setting, seed) of each run. What is chosen is read when the first seed is done."""
    for seed in seeds:
        settings = study.all_settings
        if study.chooses and seed != SEEDS[0]:
            settings = chosen(read_rows(results), settings)
        for number, setting in enumerate(settings, start=1):
            yield f"seed {seed}, {number} of {len(settings)}", setting, seed


def row_of(key, setting, run, faces, tests):
    """Trains a run, or what is missing of it, and measures it."""
    before = cpu_seconds()
    train(key, setting, run, faces)
    row = key | last_epoch(run) | measure(run / "embedder.keras", tests)
    keras.backend.clear_session()
    return row | {"cpu_seconds": round(cpu_seconds() - before)}


def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("paper", choices=STUDIES)
    add("--data", type=Path, required=True, help="folder with celeb/, celeb2/, lfw/, weights/")
    add("--work", type=Path, required=True, help="folder of small crops and runs")
    add("--seeds", type=int, nargs="+", default=SEEDS)
    add(
        "--teacher",
        help="embedder that finds wrong labels, where the CSV of them is missing; "
        "default: foamliu's .pt in DATA/weights",
    )
    add("--corrections", type=Path, default=CORRECTIONS, help="CSV of wrong labels")
    add("--results", type=Path, default=RESULTS, help="CSV with a row for each run")
    return parser.parse_args(arguments)


def key_of(setting, seed):
    return {
        "recipe": setting.recipe,
        "changes": " ".join(setting.changes),
        "seed": str(seed),
    }


def run_name(key):
    """The folder of a run: the same whatever settings are added to a study."""
    code = hashlib.sha256(key["changes"].encode()).hexdigest()[:6]
    return f"{key['recipe'].replace('/', '-')}-{code}-seed{key['seed']}"


def train(key, setting, run, faces):
    """`facemargin train` in a process of its own: what a reader would run."""
    recipe = RECIPES / f"{setting.recipe}.toml"
    changes = [f'data.path="{faces}"', f"seed={key['seed']}", *setting.changes]
    command = [sys.executable, "-m", "keras_facemargin", "train", str(recipe)]
    command += ["--output", str(run)]
    for change in changes:
        command += ["--set", change]
    code = subprocess.run(command).returncode
    if code:
        raise SystemExit(code)  # the command has said why


def last_epoch(run):
    with open(run / "history.csv", newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    return {name: f"{float(last[name]):.4f}" for name in ("loss", "accuracy")}


def cpu_seconds():
    """Of this process and of those that it waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


if __name__ == "__main__":
    main()
