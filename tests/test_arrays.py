"""What NumPy would change without a word is refused, at every door that takes people or scores."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from data.test_fuzz_containers import fuzz, mutate

from keras_facemargin import pooling
from keras_facemargin.arrays import embedding_rows, identifiers, read_npz, real_numbers, row_numbers
from keras_facemargin.audit import label_noise
from keras_facemargin.evaluate import (
    all_pairs,
    bootstrap,
    cosine_scores,
    identify,
    rates_by_group,
    tar_at_far,
    verify,
    verify_all_pairs,
)
from keras_facemargin.evaluate.at_scale import hardest_pairs, verify_listed_pairs
from keras_facemargin.evaluate.cosine import cosine_scores_of_pairs
from keras_facemargin.evaluate.identification import (
    largest_scores_of_others,
    search_among_distractors,
)
from keras_facemargin.evaluate.splits import verify_by_fold
from keras_facemargin.evaluate.templates import Templates
from keras_facemargin.evaluate.uncertainty import bootstrap_searches
from keras_facemargin.evaluate.verification import fold_accuracy, validation_rate

ROWS = np.array([[1.0, 0.1], [0.9, 0.2], [0.1, 1.0], [0.2, 0.9]])
# NumPy alone makes one person of the first and the last of each, or two of one.
MERGING = {
    "int and str": [1, 2, 2, "1"],
    "float and int": [1, 2, 2, float("nan")],
    "nan": np.array([1.0, 2.0, 2.0, np.nan]),
    "1.5": [1.5, 2.0, 2.0, 1.25],
    "NoneType and str": ["1", "2", "2", None],
    "bytes and str": ["1", "2", "2", b"1"],
    "bool and int": [1, 2, 2, True],
    "more than 64 bits": [2**63, 2, 2, -1],
    "complex128": np.array([1, 2, 2, 1 + 1j]),
    "9007199254740992.0": np.array([2.0**53, 2, 2, 3]),
    "float": np.array([1, 2, 2, 1.0], object),
}
DOORS = {
    "identifiers": lambda labels: identifiers(labels=labels),
    "verify_all_pairs": lambda labels: verify_all_pairs(ROWS, labels, fars=[0.5], progress=False),
    "all_pairs": lambda labels: all_pairs(ROWS, labels),
    "hardest_pairs": lambda labels: hardest_pairs(ROWS, labels, progress=False),
    "identify, gallery": lambda labels: identify(
        ROWS, ROWS, gallery_labels=labels, probe_labels=[1, 2, 2, 3], progress=False
    ),
    "identify, probes": lambda labels: identify(
        ROWS, ROWS, gallery_labels=[1, 2, 2, 3], probe_labels=labels, progress=False
    ),
    "largest_scores_of_others": lambda labels: largest_scores_of_others(
        ROWS, ROWS, gallery_labels=labels, probe_labels=[1, 2, 2, 3], count=1, progress=False
    ),
    "search_among_distractors": lambda labels: search_among_distractors(
        ROWS, labels, ROWS, fars=[0.5], progress=False
    ),
    "bootstrap": lambda labels: bootstrap(
        [0.9, 0.1, 0.2, 0.8], [0, 1, 1, 0], people=(labels, [4, 2, 2, 5]), progress=False
    ),
    "bootstrap_searches": lambda labels: bootstrap_searches(
        {
            "": identify(
                ROWS, ROWS, gallery_labels=[1, 2, 3, 4], probe_labels=[1, 2, 3, 4], progress=False
            )
        },
        labels,
        replicates=2,
        progress=False,
    ),
    "rates_by_group": lambda labels: rates_by_group(
        [0.9, 0.1, 0.2, 0.8], [0, 1, 1, 0], (labels, labels), threshold=0.5, replicates=2
    ),
    "fold_accuracy": lambda labels: fold_accuracy([0.9, 0.1, 0.2, 0.8], [1, 0, 0, 1], labels),
    "verify_by_fold": lambda labels: verify_by_fold([0.9, 0.1, 0.2, 0.8], [1, 0, 0, 1], labels),
    "pool_templates": lambda labels: pooling.pool_templates(ROWS, labels),
    "pool_templates, media": lambda labels: pooling.pool_templates(
        ROWS, [1, 1, 1, 1], media_ids=labels
    ),
    "Templates": lambda labels: Templates(labels, ("a", "b"), np.array([0, 1])),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("found", MERGING)
def test_labels_that_numpy_would_merge_are_refused(door, found):
    with pytest.raises(ValueError, match=r"all whole numbers or all texts") as error:
        DOORS[door](MERGING[found])
    assert found in str(error.value)


@pytest.mark.parametrize(
    "labels",
    [
        [1, 2, 2, 1],
        ["1", "2", "2", "1"],
        [b"1", b"2", b"2", b"1"],
        np.array([1.0, 2.0, 2.0, 1.0]),  # as MATLAB stores them
        np.array(["1", "2", "2", "1"], object),  # as pandas stores them
        np.array([2**64 - 1, 2, 2, 2**64 - 1], "uint64"),
        [True, False, False, True],
    ],
)
def test_labels_of_one_kind_name_as_many_people(labels):
    found = verify_all_pairs(ROWS, labels, fars=[0.5], progress=False)
    assert (found.genuines, found.impostors) == (2, 4)


def test_the_two_sides_are_of_one_kind():
    with pytest.raises(ValueError, match="whole numbers in `gallery_labels`, texts in `probe_lab"):
        identify(
            ROWS,
            ROWS,
            gallery_labels=[1, 2, 3, 4],
            probe_labels=["1", "2", "3", "4"],
            progress=False,
        )
    with pytest.raises(ValueError, match=r"texts in `people\[0\]`, whole numbers in `people\[1\]`"):
        bootstrap([0.9, 0.1], [1, 0], people=(["1", "2"], [1, 3]), progress=False)
    big = np.array([2**53 + 1, 5], "uint64")
    # float64 cannot distinguish 2**53 + 1 from 2**53.
    first, second = identifiers(a=big, b=np.array([2**53, -5]))
    assert first[0] != second[0]
    assert np.concatenate([first, second]).tolist() == [2**53 + 1, 5, 2**53, -5]
    with pytest.raises(ValueError, match="`a` must fit in 64 bits with a sign"):
        identifiers(a=np.array([2**63], "uint64"), b=[-1])
    assert [each.size for each in identifiers(a=[], b=["x"])] == [0, 1]


ROW_DOORS = {
    "cosine_scores": lambda rows: cosine_scores(rows, rows),
    "cosine_scores_of_pairs": lambda rows: cosine_scores_of_pairs(
        rows, rows, first=[0], second=[1]
    ),
    "verify_all_pairs": lambda rows: verify_all_pairs(
        rows, [0, 0, 1, 1], fars=[0.5], progress=False
    ),
    "verify_listed_pairs": lambda rows: verify_listed_pairs(
        rows, [0, 0], [1, 2], same=[1, 0], fars=[0.5], progress=False
    ),
    "identify": lambda rows: identify(
        rows, ROWS, gallery_labels=[0, 0, 1, 1], probe_labels=[0, 0, 1, 1], progress=False
    ),
    "distractors": lambda rows: search_among_distractors(
        ROWS, [0, 0, 1, 1], rows, fars=[0.5], progress=False
    ),
    "label_noise": lambda rows: label_noise(rows, [0, 0, 1, 1]),
    "pool_templates": lambda rows: pooling.pool_templates(rows, [0, 0, 1, 1]),
}


@pytest.mark.parametrize("door", ROW_DOORS)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS + 1j, "must hold real numbers. Received: an array of type complex128"),
        (ROWS.astype(object), "must hold real numbers. Received: an array of type object"),
        (ROWS.astype(str), "must hold real numbers. Received: an array of type <U"),
        ([[1.0, 2.0], [1.0]] * 2, "rows of different lengths"),
    ],
)
def test_embeddings_are_real(door, rows, message):
    with pytest.raises(ValueError, match=message):
        ROW_DOORS[door](rows)


def test_embeddings_of_an_unsigned_type_are_quantised():
    with pytest.raises(ValueError, match=r"of type uint8. Dequantise it"):
        embedding_rows(np.full((2, 3), 128, "uint8"), "a")
    np.testing.assert_array_equal(cosine_scores(np.array([[3, -4]], "int8"), [[3.0, -4.0]]), [1.0])


def test_embedders_of_two_widths_are_not_compared():
    narrow = ROWS[:, :1]
    for call in (
        lambda: identify(
            ROWS, narrow, gallery_labels=[0, 0, 1, 1], probe_labels=[0, 0, 1, 1], progress=False
        ),
        lambda: largest_scores_of_others(
            ROWS, narrow, gallery_labels=[0] * 4, probe_labels=[1] * 4, count=1, progress=False
        ),
        lambda: search_among_distractors(ROWS, [0, 0, 1, 1], narrow, fars=[0.5], progress=False),
        lambda: cosine_scores_of_pairs(ROWS, narrow, first=[0], second=[1]),
    ):
        with pytest.raises(ValueError, match=r"must come from one embedder. Received: widths"):
            call()


def test_rows_are_whole_numbers_that_exist():
    for call in (
        lambda rows: cosine_scores_of_pairs(ROWS, ROWS, first=rows, second=[0]),
        lambda rows: verify_listed_pairs(
            ROWS, [0, *rows], [1, 2], same=[1, 0], fars=[0.5], progress=False
        ),
        lambda rows: row_numbers(rows, "first", 4),
    ):
        for rows in ([-1], [4]):
            with pytest.raises(IndexError, match=r"`first` must hold rows, 0 to 3"):
                call(rows)
        with pytest.raises(ValueError, match="`first` must hold whole numbers"):
            call([1.7])


def test_scores_and_truths_are_what_they_are_called():
    with pytest.raises(ValueError, match=r"`scores` must hold real numbers.*complex128"):
        verify([0.9 + 1j, 0.1], [1, 0])
    for same in ([1, -1], [1, 2], [1.0, np.nan]):  # bool() calls them all genuine
        with pytest.raises(ValueError, match="`same` must hold True or 1"):
            verify_listed_pairs(ROWS, [0, 0], [1, 2], same=same, fars=[0.5], progress=False)
        with pytest.raises(ValueError, match="`same` must hold True or 1"):
            verify_by_fold([0.9, 0.1], same, [1, 1])
    assert real_numbers([1, 0.5], "x").dtype == np.float64


def test_a_rate_is_not_a_percentage():
    with pytest.raises(ValueError, match=r"Received: far=5. Divide a percentage by 100."):
        tar_at_far([0.9, 0.1], [1, 0], 5)
    for far in ("0.1", None, 0.1 + 0j):
        with pytest.raises(ValueError, match=r"`far` must be a rate in \(0, 1\)"):
            tar_at_far([0.9, 0.1], [1, 0], far)


def test_distances_are_not_scores():
    rng = np.random.default_rng(0)
    same = np.repeat([True, False], 50)
    distances = np.where(same, 0.4, 1.3) + rng.normal(0, 0.1, 100)
    with pytest.warns(UserWarning, match=r"Genuine pairs score lower than impostor pairs"):
        verify(distances, same)
    with pytest.raises(ValueError, match=r"`scores` must be cosines in \[-1, 1\]"):
        validation_rate(distances, same, np.tile([1, 2], 50))
    assert verify(-distances, same).eer == 0
    verify(rng.normal(size=100), same)  # chance alone is not a reason to warn
    verify([0.1, 0.9], [1, 0])


ARRAYS = {
    "embeddings": np.random.default_rng(0).normal(size=(4, 8)).astype("float32"),
    "paths": np.array(["a/1.jpg", "b/2.jpg", "c/3.jpg", "d/é.jpg"]),
    "by_columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "nothing": np.empty((0, 3)),
    "one": np.array(7),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_whole_npz_is_read_as_numpy_reads_it(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    found["embeddings"] += 1  # a sweep continues to count in it


def npz(header, content=b""):
    """A .npz of one member whose header is this text."""
    stream = io.BytesIO()
    text = header.encode("latin-1") + b"\n"
    with zipfile.ZipFile(stream, "w") as archive:
        head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text))
        archive.writestr("x.npy", head + text + content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip",
        npz("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"),  # MemoryError
        npz("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
        npz(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 30},)}}"),  # OverflowError
        npz("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}"),
        npz("{'descr': 'O', 'fortran_order': False, 'shape': ()}", pickle.dumps(print)),
        npz("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(4)),
        npz("{'descr': '<f4', 'fortran_order': False, 'shape': (2,"),  # TokenError
        npz("(" * 5000),
        npz("7"),
        npz("{'descr': 7, 'fortran_order': False, 'shape': ()}"),
    ],
)
def test_a_damaged_npz_is_one_clear_error(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npz: must be a .npz file of arrays. Received: a file"):
        read_npz(tmp_path / "a.npz")


def test_five_hundred_mutated_npz_files(tmp_path):
    files = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, **ARRAYS)
        files.append(stream.getvalue())
    words = [b"PK\x01\x02", b"PK\x03\x04", b"(", b"9" * 30, b"<f8", b"|O", b"\xff" * 4, b"\0" * 4]

    def read(rng, files, place):
        content = files[rng.integers(0, len(files))]
        (place / "a.npz").write_bytes(mutate(rng, content, words, files))
        read_npz(place / "a.npz")

    tracemalloc.start()
    try:
        outcomes, _ = fuzz(read, files, tmp_path, range(500), most_traced=3e6)
    finally:
        tracemalloc.stop()
    assert outcomes["answer"] > 10 and outcomes["refused"] > 100
