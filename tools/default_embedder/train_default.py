"""Trains the default embedder: a small network that learns a teacher's embeddings of clean crops.

    python tools/default_embedder/train_default.py --data ../shared/data --work ~/default-embedder \
        --curve zoo/results/default_curve.csv

One command: it makes what is missing in WORK (pixels, 38 KB a crop, and targets, 256 bytes a crop)
and continues where a run stopped: from `WORK/checkpoint.npz`, exactly, or, on a new machine, from
the committed `tools/default_embedder/checkpoint.npz`, which holds the same in half precision.
It trains at a constant rate, so it has no stated end. With `--cool IMAGES` it takes the checkpoint
as it is, lowers the rate to zero over so many images, and writes `WORK/embedder.keras`; the next
run continues from the checkpoint before. docs/default_embedder.md has the recipe and why.

LFW's View 1 and held-out people are measured as it trains; View 2 is never read.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import faces
import keras
import networks
import numpy as np
import student as students
import targets as teaching
import views as viewing
from rich.console import Console

from keras_facemargin.evaluate import embed, tar_at_far
from keras_facemargin.evaluate.cosine import unit_rows
from keras_facemargin.evaluate.protocols import evaluate_view_1, read_view_1
from keras_facemargin.files import draft_of, exclusive
from keras_facemargin.training.robustness import TestFaces, rates_of

FAR = 1e-3
COMMITTED = Path(__file__).with_name("checkpoint.npz")
WARM_UP = 500  # steps
SMALL = 80  # side of the first crops
# What a run must share with the checkpoint that it continues from.
SETTINGS = ("network", "teachers", "small", "mixes", "batch", "learning_rate", "seed")
FIELDS = (
    *("network", "seed", "images", "cooled", "size", "view1", "tar", "teacher_cosine"),
    *("fmr_28px", "fmr_20px", "fmr_14px", "fmr_blur2", "fmr_blur4", "fmr_jpeg8"),
    *("clean_fnmr", "cpu_hours"),
)
console = Console()


class Course(NamedTuple):
    """The steps of a run, from 0.

    Attributes:
        path: its checkpoint.
        start, end: the first step, and the one after the last.
        small: steps before this one are on small crops.
        cooling: whether the rate falls to zero, and the labels count.
    """

    path: Path
    start: int
    end: int
    small: int
    cooling: bool

    def rate(self, step):
        """Share of the peak in a step."""
        if self.cooling:
            return (self.end - step) / (self.end - self.start)
        return min(1.0, (step + 1) / WARM_UP)

    def stage(self, step):
        """Size of the crops at a step, and the step at which the size changes."""
        if step < self.small:
            return SMALL, min(self.small, self.end)
        return faces.SIZE, self.end


def main(arguments=None):
    options = read_options(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    cv2.setNumThreads(1)
    try:
        with exclusive(options.work):
            state = find_state(options)
            lesson = read_lesson(options)
            exam = Exam(lesson, options)
            course, state = course_of(state, options)
            run(state, course, lesson, exam, options)
    except BlockingIOError as error:  # another process trains there
        raise SystemExit(str(error)) from None


def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with celeb/, celeb2/, lfw/, weights/")
    add("--work", type=Path, required=True, help="folder of pixels, targets and checkpoints")
    add("--network", default="spherenet_late", choices=networks.CANDIDATES)
    add("--teachers", nargs="+", help="names or files; default: foamliu's .pt in DATA/weights")
    add("--begin-with", type=Path, metavar="FILE", help="a new run's first weights: a .keras file")
    add("--until", type=int, default=6_000_000, metavar="IMAGES", help="views in all")
    add("--small", type=int, default=0, metavar="IMAGES", help="first views, of 80x80")
    add("--cool", type=int, default=0, metavar="IMAGES", help="end here, over so many views")
    add("--mixes", type=int, default=20_000, help="faces that are mixes of two crops")
    add("--batch", type=int, default=64)
    add("--learning-rate", type=float, default=1e-3, help="peak of the schedule")
    add("--seed", type=int, default=0)
    add("--measure-every", type=int, default=250_000, metavar="IMAGES")
    add("--save-every", type=int, default=50_000, metavar="IMAGES")
    add("--stop-after", type=float, default=float("inf"), metavar="MINUTES")
    add("--curve", type=Path, help="CSV of the measures; default: WORK/curve.csv")
    add("--every", type=int, default=1, help="for a trial: train on one of so many crops")
    add("--publish", action="store_true", help="write the small committed checkpoint too")
    options = parser.parse_args(arguments)
    options.curve = options.curve or options.work / "curve.csv"
    if options.teachers is None:
        options.teachers = [str(options.data / "weights" / "foamliu_mobilefacenet.pt")]
    return options


def find_state(options):
    """The state of the work folder, else the committed one of the same settings, else a new one."""
    own, wanted = options.work / "checkpoint.npz", about_run(options)
    for path in (own, COMMITTED):
        if not path.exists():
            continue
        state, about = students.State.load(path)
        if all(about[name] == wanted[name] for name in SETTINGS):
            if options.begin_with is not None:
                console.print(f"--begin-with is for a new run: {options.begin_with} is not read")
            console.print(f"Continues from {path}, {state.images:,} images")
            return state
        if path == own:
            different = [name for name in SETTINGS if about[name] != wanted[name]]
            raise SystemExit(
                "A run must continue with its settings. Received: "
                + ", ".join(f"{name} {wanted[name]}, before {about[name]}" for name in different)
                + f". Take another --work, or delete {own}."
            )
    state = students.State(wanted["network"])
    if options.begin_with is not None:
        if not options.begin_with.is_file():
            raise SystemExit(
                f"--begin-with must be a .keras file. Received: {options.begin_with}, which does "
                "not exist. Leave it out to begin with random weights."
            )
        state.begin_with(options.begin_with)
    return state


def course_of(state, options):
    """The course of a run, and the state in which it begins."""
    work, batch = options.work, options.batch
    if not options.cool:
        end, small = options.until // batch, options.small // batch
        return Course(work / "checkpoint.npz", 0, end, small, cooling=False), state
    start = state.images // batch
    course = Course(work / "cooled.npz", start, start + options.cool // batch, 0, cooling=True)
    if course.path.exists():  # perhaps of a run that stopped while it cooled
        cooled, about = students.State.load(course.path)
        if (about["start"], about["end"]) == (course.start, course.end):
            return course, cooled
    return course, state


def read_lesson(options):
    """The lesson of the work folder; what is missing there is made."""
    crops = [
        crop
        for number, crop in enumerate(faces.list_crops(options.data))
        if crop.part == faces.CHOICE or number % options.every == 0
    ]
    pixels = faces.open_pixels(options.work / "pixels.npy", crops, options.mixes, options.seed)
    return Lesson(crops, pixels, options)


def about_run(options):
    about = {name: getattr(options, name) for name in SETTINGS}
    return about | {"teachers": [Path(each).name for each in options.teachers]}


class Lesson:
    """Crops, targets and labels.

    Attributes:
        targets: float32 (N, D), unit.
        labels: int32 (N,), -1 of a mix or an unknown person.
        prototypes: float32 (people, D), unit.
        rows: the training rows.
        held_out: part -> rows of the held-out crops.
    """

    def __init__(self, crops, pixels, options):
        self.crops, self.pixels = crops, pixels
        parts = np.array([crop.part for crop in crops] + [faces.TRAIN] * options.mixes)
        people = [crop.person for crop in crops] + [""] * options.mixes
        self.people = people
        self.full = np.array([crop.full for crop in crops] + [False] * options.mixes)
        rows = np.flatnonzero((parts == faces.TRAIN) | (parts == faces.SEEN))
        self.targets = teaching.open_targets(
            options.work, options.teachers, pixels, networks.EMBEDDING_DIM, rows
        )
        seen = [row for row in np.flatnonzero(parts == faces.SEEN) if not people[row]]
        self.held_out = {
            part: teaching.unseen(np.flatnonzero(parts == part), self.targets, people, seen)
            for part in (faces.CHOICE, faces.CARD)
        }
        both = np.concatenate(list(self.held_out.values()))
        self.rows = teaching.without_held_out(rows, self.targets, people, both)
        known = [people[row] for row in self.rows]
        means = teaching.person_means(self.targets[self.rows], known)
        numbers = {person: number for number, person in enumerate(means)}
        self.prototypes = np.stack(list(means.values()))
        self.labels = np.full(len(pixels), -1, np.int32)
        self.labels[self.rows] = [numbers.get(person, -1) for person in known]
        mixed = np.count_nonzero(self.rows >= len(crops))
        console.print(
            f"{len(self.rows) - mixed:,} crops and {mixed:,} mixes to train on, "
            f"{np.count_nonzero(self.labels >= 0):,} crops of {len(means):,} known people; "
            f"{len(rows) - len(self.rows):,} left out that look like held-out people. Held out: "
            + ", ".join(f"{len(each):,} crops ({part})" for part, each in self.held_out.items())
        )


class Exam:
    """Measures of an embedder for choices: held-out people, bad images, LFW's View 1."""

    def __init__(self, lesson, options):
        self._rows = lesson.held_out[faces.CHOICE]
        self._pixels, self._targets = lesson.pixels, lesson.targets
        people = np.array([lesson.people[row] for row in self._rows])
        self._pairs = np.triu_indices(len(people), k=1)
        self._same = people[self._pairs[0]] == people[self._pairs[1]]
        self._two = two_each(self._rows, people, lesson.pixels)
        lfw = options.data / "lfw"
        self._view_1 = read_view_1(lfw, lfw / "aligned", on_missing="reject")
        console.print(f"The teacher's TAR on held-out people: {self._tar(lesson.targets):.4f}")

    def __call__(self, embedder):
        """The columns of the curve."""
        embeddings = embed(embedder, self._pixels[self._rows], flip=False, progress=False)
        units = unit_rows(embeddings, "embeddings")
        cosines = np.sum(units * self._targets[self._rows], axis=1)
        bad = rates_of(self._two.embed(embedder, lambda: None), FAR)
        view_1 = evaluate_view_1(embedder, self._view_1, flip=False, progress=False)
        return {
            "view1": f"{view_1.accuracy:.4f}",
            "tar": f"{self._tar_of(units):.4f}",
            "teacher_cosine": f"{cosines.mean():.4f}",
            **{
                f"fmr_{kind}": f"{rates.fmr / FAR:.2f}"
                for kind, rates in bad.both.items()
                if kind != "clean"
            },
            "clean_fnmr": f"{bad.both['clean'].fnmr:.4f}",
        }

    def _tar(self, targets):
        return self._tar_of(targets[self._rows].astype(np.float64))

    def _tar_of(self, units):
        scores = np.sum(units[self._pairs[0]] * units[self._pairs[1]], axis=1)
        return tar_at_far(scores, self._same, FAR).tar


def two_each(rows, people, pixels):
    """Two crops of each person that has two."""
    firsts, seconds = [], []
    for person in np.unique(people):
        own = rows[people == person]
        if len(own) > 1:
            firsts.append(own[0])
            seconds.append(own[1])
    return TestFaces(pixels[firsts], pixels[seconds])


def run(state, course, lesson, exam, options):
    views = viewing.Views(
        lesson.pixels, lesson.rows, lesson.full, batch=options.batch, seed=options.seed
    )
    about = about_run(options) | {"start": course.start, "end": course.end}
    deadline = time.monotonic() + 60 * options.stop_after
    forget_later(options.curve, state, course, options)
    clock, before = Clock(), state.cpu_hours
    while state.images < course.end * options.batch:
        first = state.images // options.batch
        size, end = course.stage(first)
        prototypes = lesson.prototypes if course.cooling else None
        student = state.student(size, options.learning_rate, prototypes)
        console.print(f"Step {first:,} of {course.end:,}: crops of {size}")
        clock.restart()
        for step, (rows, batch) in enumerate(views.batches(first, end, size), first):
            student.optimizer.learning_rate = options.learning_rate * course.rate(step)
            truth = (lesson.targets[rows], lesson.labels[rows])
            clock.add(student.train_on_batch(batch, truth), len(rows))
            state.average(student, step + 1)
            state.images = (step + 1) * options.batch
            late = time.monotonic() > deadline
            last = step + 1 == end or late
            state.cpu_hours = before + time.process_time() / 3600
            if last or crosses(state.images, options.batch, options.save_every):
                state.take(student)
                state.save(course.path, about)
                console.print(f"{state.images:,} images, {clock}")
                clock.restart()
            if last or crosses(state.images, options.batch, options.measure_every):
                write_measure(state, course, exam(state.measured(size)), options)
                if options.publish and not course.cooling:
                    state.save_small(COMMITTED, about)
                clock.restart()
            if late:
                return
    if course.cooling:
        students.save_half(state.saved(), options.work / "embedder.keras")
        console.print(f"Wrote {options.work / 'embedder.keras'}")


def write_measure(state, course, measures, options):
    row = {"network": state.network, "seed": options.seed, "images": state.images}
    row["cooled"] = state.images - course.start * options.batch if course.cooling else 0
    row["size"] = course.stage(state.images // options.batch - 1)[0]
    row |= {**measures, "cpu_hours": f"{state.cpu_hours:.2f}"}
    write_rows(options.curve, [*read_rows(options.curve), row])
    console.print(row)


class Clock:
    """Loss and speed since the last line."""

    def __init__(self):
        self.restart()

    def restart(self):
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._losses, self._images = [], 0

    def add(self, loss, images):
        self._losses.append(float(loss))
        self._images += images

    def __str__(self):
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        return (
            f"loss {np.mean(self._losses):.4f}, {self._images / wall:.0f} images a second, "
            f"{2 * self._images / cpu:.0f} for each two CPU seconds"
        )


def crosses(images, batch, every):
    return images // every > (images - batch) // every


def forget_later(path, state, course, options):
    """Drops the rows of this run that come after its checkpoint."""

    def later(row):
        images, cooled = int(row["images"]), int(row["cooled"])
        if (row["network"], row["seed"]) != (state.network, str(options.seed)):
            return False
        if bool(cooled) != course.cooling or images <= state.images:
            return False
        return not cooled or images - cooled == course.start * options.batch

    write_rows(path, [row for row in read_rows(path) if not later(row)])


def read_rows(path):
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
