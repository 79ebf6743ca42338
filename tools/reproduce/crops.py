"""The faces of the experiments: small crops in folders, with labels that an audit has cleaned."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from keras_facemargin.audit import label_noise, shared_identities
from keras_facemargin.data import FaceFolder
from keras_facemargin.evaluate import embed
from keras_facemargin.files import draft_folder, draft_of, exclusive, write_json
from keras_facemargin.images import read_face
from keras_facemargin.zoo import load_embedder

SIZE = 40
ONE_PERSON = 0.6  # cosine of two labels' means from which they are one person
LFW_PERSON = 0.5  # cosine of a label's mean to one of LFW's from which its person is left out
FEWEST = 2  # images of a person


def write_training_crops(crops, folder, size=SIZE):
    """The crops of `cleaned_crops`, small, in folders of people; nothing if the folder exists."""
    names = (f"{person}/{path.parent.name}_{path.stem}.jpg" for path, person in crops)
    write_small([path for path, _ in crops], names, folder, size)


def cleaned_crops(data, teacher, lfw, corrections):
    """(path, person) of each labelled crop of DATA, by the file of corrections.

    Args:
        data: folder with celeb/train and celeb2/train.
        teacher: file of an embedder that was trained on other people.
        lfw: folder of LFW's crops.
        corrections: CSV of the images with a wrong label: image, and its true person, empty where
            the image is dropped. `find_corrections` writes it if it does not exist.
    """
    folders = [data / name / "train" for name in ("celeb", "celeb2")]
    if not all(folder.is_dir() for folder in folders):
        raise SystemExit(
            f"--data must be a folder with celeb/train and celeb2/train. Received: {data}."
        )
    paths = [path for folder in folders for path in FaceFolder(folder).paths]
    if not corrections.exists():
        find_corrections(paths, load_embedder(teacher), lfw, corrections)
    with open(corrections, newline="", encoding="utf-8") as file:
        corrected = {row["image"]: row["person"] for row in csv.DictReader(file)}
    people = ((path, corrected.get(name_of(path), path.parent.name)) for path in map(Path, paths))
    return [(path, person) for path, person in people if person]


def find_corrections(paths, embedder, lfw, file):
    """Writes the file of corrections, and beside it, in .json, how many there are of each kind."""
    names = [Path(path).parent.name for path in paths]
    people, labels = np.unique(names, return_inverse=True)
    test = FaceFolder(lfw)
    embeddings = embed(embedder, paths)
    keep, person, dropped = clean(embeddings, labels, (embed(embedder, test.paths), test.labels))
    counts = np.bincount(person[keep])
    report = {
        "read": {"images": len(paths), "people": len(people)},
        **dropped,
        "kept": {"images": int(keep.sum()), "people": int(np.count_nonzero(counts))},
    }
    with draft_of(file) as draft, open(draft, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", "person"))
        for row in np.flatnonzero(~keep | (person != labels)):
            table.writerow((name_of(Path(paths[row])), people[person[row]] if keep[row] else ""))
    write_json(file.with_suffix(".json"), report)


def name_of(path):
    return f"{path.parent.name}/{path.name}"


def clean(embeddings, labels, test):
    """Which images to keep, whose they are, and how many were dropped for what.

    Labels whose means are alike become one; people of the test set, images nearer to another
    person than to their own, and people with a single image left are dropped.

    Args:
        embeddings: float (N, D).
        labels: int (N,), from 0.
        test: (embeddings, labels) of the test set.

    Returns:
        keep, bool (N,); person, int (N,), a label; dropped, dict of numbers.
    """
    twins = shared_identities(embeddings, labels, ONE_PERSON)
    one = np.arange(labels.max() + 1)
    for first, second in zip(twins.first, twins.second, strict=True):
        one[one == one[second]] = one[first]
    person = one[labels]
    tested = shared_identities(embeddings, person, LFW_PERSON, against=test).first
    in_test = np.isin(person, tested)
    doubtful = np.zeros(len(labels), bool)
    doubtful[label_noise(embeddings, person).suspects] = True
    keep = ~(in_test | doubtful)
    few = keep & (np.bincount(person[keep], minlength=len(one))[person] < FEWEST)
    dropped = {
        "labels that are one person with another": int(len(one) - len(np.unique(one))),
        "images of people like one of the test set": int(in_test.sum()),
        "people like one of the test set": len(np.unique(tested)),
        "images nearer to another person": int((doubtful & ~in_test).sum()),
        "images of people with too few left": int(few.sum()),
    }
    return keep & ~few, person, dropped


def write_test_crops(source, folder):
    """The crops of a folder of people, small; nothing if the folder exists."""
    paths = sorted(source.glob("*/*.jpg"))
    write_small(paths, map(name_of, paths), folder, SIZE)


def write_small(paths, names, folder, size):
    """One process writes, another one waits for it."""
    with exclusive(folder, wait=3600):
        if folder.exists():
            return
        with draft_folder(folder) as draft:
            for path, name in zip(track(paths, "Small crops"), names, strict=True):
                target = draft / name
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(read_face(path, size)).save(target, quality=95)
