"""RecordIO: byte for byte what MXNet wrote, and nothing lost silently in what is damaged."""

import io
import multiprocessing
import pickle
import struct
import threading
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.data import problems
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.formats.recordio import (
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
)
from keras_facemargin.data.records import FaceRecords, write_face_records
from keras_facemargin.images.image import BadImage, decode_face, read_face
from keras_facemargin.images.synthetic import write_synthetic_faces

MAGIC = struct.pack("<I", 0xCED7230A)


def encoded(seed=0, kind="JPEG", shape=(112, 112, 3), dtype="uint8", mode=None, **options):
    """The bytes of an image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    if mode is None:
        image = Image.fromarray(pixels)
    else:
        image = Image.frombytes(mode, shape[1::-1], pixels.tobytes())
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write(path, payloads, **options):
    with RecordWriter(path, **options) as writer:
        for key, payload in enumerate(payloads):
            writer.write(key, payload)
    return path


def face(label, seed, **options):
    return pack_record(Record(label, encoded(seed, **options), seed))


@pytest.fixture
def records(tmp_path):
    """Six images of the people 3, 7 and 20, without a header: what `im2rec` makes."""
    return write(tmp_path / "faces.rec", [face(float(k), k) for k in [7, 3, 3, 20, 7, 3]])


def collect(dataset):
    images, labels = zip(*dataset, strict=True)
    return np.concatenate(images), np.concatenate(labels)


# What MXNet itself wrote


@pytest.mark.parametrize(("name", "count"), [("train", 520), ("multipart", 12)])
def test_mxnets_files_come_out_byte_for_byte(shared_data, tmp_path, name, count):
    source = shared_data / "mxnet" / f"{name}.rec"
    reader = RecordReader(source)
    assert reader.indexed
    assert len(reader) == count
    with RecordWriter(tmp_path / "copy.rec") as writer:
        for key, payload in reader:
            assert reader.read(key) == payload
            assert pack_record(unpack_record(payload)) == payload
            writer.write(key, payload)
    assert (tmp_path / "copy.rec").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy.idx").read_bytes() == source.with_suffix(".idx").read_bytes()


@pytest.mark.parametrize("name", ["train", "multipart"])
def test_mxnets_files_are_read_alike_without_their_index(shared_data, name):
    source = shared_data / "mxnet" / f"{name}.rec"
    assert list(RecordReader(source, index=None)) == list(RecordReader(source))


def test_mxnets_parts_are_joined_with_the_magic_between_them(shared_data):
    lines = (shared_data / "mxnet" / "multipart.expected.txt").read_text().split("\n")
    images = [
        unpack_record(payload).image.hex()
        for _, payload in RecordReader(shared_data / "mxnet" / "multipart.rec")
    ]
    assert images == lines[:12]


def test_mxnets_training_set(shared_data):
    faces = FaceRecords(shared_data / "mxnet" / "train.rec")
    assert (len(faces), faces.num_classes, faces.skipped) == (479, 40, [])
    assert faces.identities == list(range(40))
    reader = RecordReader(shared_data / "mxnet" / "train.rec")
    stored = [unpack_record(reader.read(key)) for key in range(1, 480)]
    assert faces.labels.tolist() == [int(np.ravel(each.label)[0]) for each in stored]
    assert {np.size(each.label) for each in stored} == {1, 2}
    images, labels = collect(faces.dataset(64).as_numpy_iterator())
    np.testing.assert_array_equal(images, [decode_face(each.image) for each in stored])
    np.testing.assert_array_equal(labels, faces.labels)


def test_mxnets_training_set_is_written_again_from_its_images(shared_data, tmp_path):
    source = shared_data / "mxnet" / "train.rec"
    faces = FaceRecords(source)
    write_face_records(tmp_path / "again.rec", faces.paths, faces.labels)
    for (key, ours), (theirs_key, theirs) in zip(
        RecordReader(tmp_path / "again.rec"), RecordReader(source), strict=True
    ):
        ours, theirs = unpack_record(ours), unpack_record(theirs)
        assert (key, ours.image, ours.id) == (theirs_key, theirs.image, theirs.id)
        if theirs.image:  # every second of theirs has a vector with a second number, unused
            assert ours.label == np.ravel(theirs.label)[0]
        else:
            np.testing.assert_array_equal(ours.label, theirs.label)


# Records and parts


def test_the_bytes_of_a_record_in_parts(tmp_path):
    write(tmp_path / "a.rec", [b"abcd" + MAGIC + MAGIC + b"ef"])
    assert (tmp_path / "a.rec").read_bytes() == b"".join(
        [
            *(MAGIC, struct.pack("<I", 1 << 29 | 4), b"abcd"),
            *(MAGIC, struct.pack("<I", 2 << 29)),
            *(MAGIC, struct.pack("<I", 3 << 29 | 2), b"ef\0\0"),
        ]
    )


def test_payloads_with_magics_anywhere_come_back(tmp_path):
    rng = np.random.default_rng(0)
    payloads = [b"", MAGIC, b"x" + MAGIC, MAGIC * 5, MAGIC[:3], b"abcd" + MAGIC[:3]]
    for _ in range(300):
        words = [MAGIC if rng.random() < 0.3 else rng.bytes(rng.integers(0, 9)) for _ in range(9)]
        payloads.append(b"".join(words))
    write(tmp_path / "a.rec", payloads)
    for index in ("auto", None):
        reader = RecordReader(tmp_path / "a.rec", index=index)
        assert [payload for _, payload in reader] == payloads
        order = rng.permutation(len(payloads)).tolist()
        assert [reader.read(key) for key in order] == [payloads[key] for key in order]


@pytest.mark.parametrize("length", [8100, 8184, 8185, 9000, 70000])
def test_records_longer_than_one_read(tmp_path, length):
    payloads = [np.random.default_rng(length).bytes(length), b"end"]
    write(tmp_path / "a.rec", payloads)
    assert [payload for _, payload in RecordReader(tmp_path / "a.rec")] == payloads


def test_keys_may_be_any_whole_numbers_in_any_order(tmp_path):
    keys = [5, 0, 10**15, -2]
    with RecordWriter(tmp_path / "a.rec") as writer:
        for key in keys:
            writer.write(key, str(key).encode())
    reader = RecordReader(tmp_path / "a.rec")
    assert reader.keys.tolist() == keys
    for key in keys:
        assert reader.read(key) == str(key).encode()
    for key in (1, 10**16, -5):
        with pytest.raises(KeyError, match=f"key={key}"):
            reader.read(key)


def test_labels_are_numbers_or_vectors():
    for label in (3.0, 5, np.float32(2)):
        assert unpack_record(pack_record(Record(label, b"x"))).label == label
    vector = unpack_record(pack_record(Record([3, 0.5, -1], b"x", 9, 8)))
    np.testing.assert_array_equal(vector.label, np.array([3, 0.5, -1], "float32"))
    assert vector[1:] == (b"x", 9, 8)
    for label in ([], [[1.0]]):
        with pytest.raises(ValueError, match="vector of at least one number"):
            pack_record(Record(label, b"x"))


def test_a_label_longer_than_its_record_is_refused_without_memory_for_it():
    payload = struct.pack("<IfQQ", 2**32 - 1, 0.0, 1, 0) + bytes(100)
    tracemalloc.start()
    with pytest.raises(BadImage, match=r"4,294,967,295 numbers(.|\n)*Received: 124 bytes"):
        unpack_record(payload)
    assert tracemalloc.get_traced_memory()[1] < 1e5
    tracemalloc.stop()
    with pytest.raises(BadImage, match="Received: 23 bytes"):
        unpack_record(payload[:23])


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    write(tmp_path / "a.rec", [b"old"])
    with (
        pytest.raises(ValueError, match="key=1 twice"),
        RecordWriter(tmp_path / "a.rec") as writer,
    ):
        writer.write(1, b"new")
        writer.write(1, b"new")
    assert RecordReader(tmp_path / "a.rec").read(0) == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.idx", "a.rec"]


def test_a_payload_too_long_for_the_format(tmp_path):
    class Long(bytes):
        def __len__(self):
            return 1 << 29

    with pytest.raises(ValueError, match="536,870,912"), RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(0, Long())


def test_writing_without_an_index(tmp_path):
    write(tmp_path / "a.rec", [b"x"], index=None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.rec"]


# Threads, processes


def test_threads_read_at_once(records):
    reader = RecordReader(records)
    expected = [payload for _, payload in reader]
    wrong = []

    def read(seed):
        for row in np.random.default_rng(seed).integers(0, 6, 500):
            if reader.read_row(row) != expected[row]:
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _read_in_child(reader, queue):
    queue.put([payload for _ in range(50) for _, payload in reader])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "pickle"])
def test_processes_read_at_once(records, method):
    reader = RecordReader(records)
    expected = [payload for _ in range(50) for _, payload in reader]
    if method == "pickle":
        copy = pickle.loads(pickle.dumps(reader))
        reader.close()
        assert [payload for _ in range(50) for _, payload in copy] == expected
        return
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_read_in_child, args=(reader, queue)) for _ in range(3)]
    for child in children:
        child.start()
    assert [payload for _ in range(50) for _, payload in reader] == expected
    for _ in children:
        assert queue.get(timeout=60) == expected
    for child in children:
        child.join()


def test_a_closed_reader_says_so(records):
    reader = RecordReader(records)
    reader.close()
    with pytest.raises(ValueError, match="closed file"):
        reader.read(0)


def test_another_file_behind_a_pickled_reader(records):
    pickled = pickle.dumps(RecordReader(records))
    records.write_bytes(records.read_bytes()[:-4])
    with pytest.raises(ValueError, match="must not have changed"):
        pickle.loads(pickled)


def test_where_there_is_no_pread(records, monkeypatch):
    expected = list(RecordReader(records))
    monkeypatch.delattr("os.pread")
    assert list(RecordReader(records)) == expected


def test_a_file_that_shrinks_while_it_is_open(tmp_path):
    write(tmp_path / "a.rec", [bytes(20000), bytes(20000)])
    reader = RecordReader(tmp_path / "a.rec")
    (tmp_path / "a.rec").write_bytes((tmp_path / "a.rec").read_bytes()[:30000])
    with pytest.raises(BadImage, match=r"record 1 \(byte 20,008\): the file has become shorter"):
        reader.read(1)


# Damaged files


def test_no_bytes_at_all(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"")
    for on_bad in ("refuse", "skip", "list"):
        with pytest.raises(ValueError, match=r"a\.rec of 0 bytes"):
            RecordReader(tmp_path / "a.rec", on_bad=on_bad)
    with pytest.raises(FileNotFoundError):
        RecordReader(tmp_path / "gone.rec")


@pytest.mark.parametrize("content", [b"x", b"not a record file", MAGIC, b"\0" * 5000])
def test_no_record_in_it(tmp_path, content):
    (tmp_path / "a.rec").write_bytes(content)
    with pytest.raises(ValueError, match="1 entry that is not a record"):
        RecordReader(tmp_path / "a.rec")
    with pytest.raises(ValueError, match=r"not a? ?record"):
        RecordReader(tmp_path / "a.rec", on_bad="list")


PAYLOADS = [b"a" * 41, b"b" * 30 + MAGIC + b"c" * 5 + MAGIC, b"d" * 8 + MAGIC + b"e" * 50, b"f" * 9]


def test_a_file_cut_anywhere_keeps_every_record_before_the_cut(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS)
    content = (tmp_path / "a.rec").read_bytes()
    (tmp_path / "a.idx").unlink()
    ends = [52, 104, 180, 200]
    assert len(content) == ends[-1]
    for cut in range(1, len(content)):
        (tmp_path / "a.rec").write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        reader = None
        if whole:
            reader = RecordReader(tmp_path / "a.rec", on_bad="list")
            assert [payload for _, payload in reader] == PAYLOADS[:whole]
        if cut not in ends:
            with pytest.raises(ValueError, match="1 entry") as caught:
                RecordReader(tmp_path / "a.rec")
            start = ends[whole - 1] if whole else 0
            assert f"bytes {start} to {cut}" in str(caught.value)
            assert "the file ends" in str(caught.value) or "cut off" in str(caught.value)
            assert 'on_bad="skip"' in str(caught.value)
            if reader:
                assert len(reader.skipped) == 1
        elif reader:
            assert reader.skipped == []


def test_a_wrong_magic_costs_its_own_record_only(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS)
    (tmp_path / "a.idx").unlink()
    content = (tmp_path / "a.rec").read_bytes()
    for row, offset in enumerate([0, 52, 104, 180]):
        spoiled = bytearray(content)
        spoiled[offset] ^= 255
        (tmp_path / "a.rec").write_bytes(spoiled)
        with pytest.warns(UserWarning, match=f"bytes {offset} to(.|\n)*magic(.|\n)*are skipped"):
            reader = RecordReader(tmp_path / "a.rec", on_bad="skip")
        assert [payload for _, payload in reader] == PAYLOADS[:row] + PAYLOADS[row + 1 :]
        assert len(reader.skipped) == 1


@pytest.mark.parametrize("length", [0, 4, 12, 44, 60, 200, 1 << 20, (1 << 29) - 1])
def test_a_damaged_length_costs_its_own_record_only(tmp_path, length):
    write(tmp_path / "a.rec", PAYLOADS)
    (tmp_path / "a.idx").unlink()
    spoiled = bytearray((tmp_path / "a.rec").read_bytes())
    spoiled[4:8] = struct.pack("<I", length)
    (tmp_path / "a.rec").write_bytes(spoiled)
    tracemalloc.start()
    reader = RecordReader(tmp_path / "a.rec", on_bad="list")
    assert [payload for _, payload in reader][-3:] == PAYLOADS[1:]
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()
    # A length that ends within padding cannot be told from a right one; any other is seen.
    assert reader.skipped or length == 44


@pytest.mark.parametrize("flag", range(4, 8))
def test_flags_that_do_not_exist(tmp_path, flag):
    write(tmp_path / "a.rec", PAYLOADS)
    (tmp_path / "a.idx").unlink()
    spoiled = bytearray((tmp_path / "a.rec").read_bytes())
    spoiled[7] |= flag << 5
    (tmp_path / "a.rec").write_bytes(spoiled)
    reader = RecordReader(tmp_path / "a.rec", on_bad="list")
    assert [payload for _, payload in reader] == PAYLOADS[1:]
    assert f"flag {flag} at byte 0 begins no record" in reader.skipped[0].reason


def test_parts_out_of_order_are_one_bad_entry_each(tmp_path):
    def part(flag, data):
        return MAGIC + struct.pack("<I", flag << 29 | len(data)) + data

    first, middle, last, whole = (part(flag, b"1234") for flag in (1, 2, 3, 0))
    (tmp_path / "a.rec").write_bytes(last + whole + first + whole + middle + last + first + last)
    reader = RecordReader(tmp_path / "a.rec", on_bad="list")
    assert [payload for _, payload in reader] == [b"1234", b"1234", b"1234" + MAGIC + b"1234"]
    assert [each.path.split("bytes ")[1] for each in reader.skipped] == [
        "0 to 12",
        "24 to 36",
        "48 to 72",
    ]


def test_chains_of_parts_that_share_a_tail_cost_no_more_than_their_bytes(tmp_path):
    # Each of many first parts reaches over the others to one long row of middle parts.
    starts, middles = 4000, 4000
    heads = b"".join(
        MAGIC + struct.pack("<I", 1 << 29 | 8 * (starts - 1 - row)) for row in range(starts)
    )
    (tmp_path / "a.rec").write_bytes(heads + (MAGIC + struct.pack("<I", 2 << 29)) * middles)
    reads = []
    original = RecordReader._bytes
    RecordReader._bytes = lambda *arguments: reads.append(1) or original(*arguments)
    try:
        with pytest.raises(ValueError, match=r"not a? ?record"):
            RecordReader(tmp_path / "a.rec")
    finally:
        RecordReader._bytes = original
    assert len(reads) < 10 * (starts + middles)


@pytest.mark.parametrize(
    ("flag", "length"),
    [(0, 0), (0, (1 << 29) - 1), (1, None), (0, None)],
    ids=["whole", "too long", "first part", "record"],
)
def test_a_hostile_file_is_not_read_again_for_each_of_its_heads(
    tmp_path, bytes_read_by, flag, length
):
    count = 10_000
    file = tmp_path / "a.rec"
    # Heads that announce nothing, too much, or all that is left; behind each a word of garbage.
    stop = 12 * count
    words = [
        MAGIC
        + struct.pack("<I", flag << 29 | (stop - 12 * row - 8 if length is None else length))
        + b"junk"
        for row in range(count)
    ]
    file.write_bytes(b"".join(words) + b"end!")
    file.with_suffix(".idx").write_text("".join(f"{row}\t{12 * row}\n" for row in range(count)))
    # A head may cost a few usual records (8 KiB); the rest of the file would be 60,000 bytes.
    for index in (None, "auto"):
        assert bytes_read_by(RecordReader, file, index, on_bad="list") < count * 20_000
        assert bytes_read_by(FaceRecords, file, index) < count * 40_000


def test_a_file_of_nothing_but_damage_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(problems, "_MOST_BAD", 50)
    head = MAGIC + struct.pack("<I", (1 << 29) - 1)
    (tmp_path / "a.rec").write_bytes(head * 50)
    with pytest.raises(ValueError, match="50 entries that are not records"):
        RecordReader(tmp_path / "a.rec")
    (tmp_path / "a.rec").write_bytes(head * 51)
    with pytest.raises(ValueError, match=r"more than 50 damaged places. Received: the last at"):
        RecordReader(tmp_path / "a.rec", on_bad="skip")


def test_a_magic_at_the_border_of_two_searches_is_found(tmp_path):
    for shift in (-8, -4, 0, 4):
        junk = bytes((1 << 20) + shift)
        (tmp_path / "a.rec").write_bytes(
            junk + MAGIC + struct.pack("<I", 3) + b"abc\0" + bytes(1 << 20)
        )
        reader = RecordReader(tmp_path / "a.rec", on_bad="list")
        assert [payload for _, payload in reader] == [b"abc"]
        assert len(reader.skipped) == 2


# Damaged indexes

BAD_LINES = {
    "0\t0\n1 52\n": ("line 2", "KEY<tab>OFFSET"),
    "0\t0\n1\n": ("line 2", "KEY<tab>OFFSET"),
    "0\t0\n\n": ("line 2", "KEY<tab>OFFSET"),
    "zero\t0\n": ("line 1", "'zero"),
    "0\t0x10\n": ("line 1", "0x10"),
    "0\t-4\n": ("line 1", "-4"),
    "0\t0\t0\n": ("line 1", "KEY<tab>OFFSET"),
    "0\t0\n1\t47\n": ("line 2", "multiple of 4"),
    "0\t0\n1\t196\n": ("line 2", "within the 200 bytes"),
    "0\t99999999999\n": ("line 1", "within the 200 bytes"),
    "0\t" + "9" * 40 + "\n": ("line 1", "KEY<tab>OFFSET"),
    "9" * 100000: ("line 1", "KEY<tab>OFFSET"),
    "0\t0\n0\t48\n": ("a.idx", "key 0 occurs in it more than once"),
    "0\t0\n1\t0\n": ("a.idx", "offset 0 occurs in it more than once"),
    "".join(f"{key}\t0\n" for key in range(30)): ("a.idx", "more lines than"),
    "": ("a.idx", "Received: none"),
}


@pytest.mark.parametrize("text", BAD_LINES, ids=lambda text: repr(text[:20]))
def test_a_damaged_index_is_named_and_the_records_are_found_without_it(tmp_path, text):
    write(tmp_path / "a.rec", PAYLOADS)
    (tmp_path / "a.idx").write_text(text)
    place, reason = BAD_LINES[text]
    with pytest.raises(ValueError, match="1 entry") as caught:
        RecordReader(tmp_path / "a.rec")
    for part in (place, reason, "index=None", 'on_bad="skip"'):
        assert part in str(caught.value)
    with pytest.warns(UserWarning, match=r"a\.idx"):
        reader = RecordReader(tmp_path / "a.rec", on_bad="skip")
    assert not reader.indexed
    assert list(reader) == list(enumerate(PAYLOADS))
    assert list(RecordReader(tmp_path / "a.rec", index=None)) == list(enumerate(PAYLOADS))


def test_an_index_that_is_no_text(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS)
    (tmp_path / "a.idx").write_bytes((tmp_path / "a.rec").read_bytes())
    with pytest.raises(ValueError, match="line 1"):
        RecordReader(tmp_path / "a.rec")


def test_an_index_written_on_windows(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS)
    lines = (tmp_path / "a.idx").read_bytes()
    (tmp_path / "a.idx").write_bytes(lines.replace(b"\n", b"\r\n").rstrip())
    assert list(RecordReader(tmp_path / "a.rec")) == list(enumerate(PAYLOADS))


def test_an_index_elsewhere(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS, index=tmp_path / "other.txt")
    assert not (tmp_path / "a.idx").exists()
    (tmp_path / "other.txt").write_text("70\t104\n")
    assert list(RecordReader(tmp_path / "a.rec", tmp_path / "other.txt")) == [(70, PAYLOADS[2])]
    with pytest.raises(FileNotFoundError):
        RecordReader(tmp_path / "a.rec", tmp_path / "gone.idx")


def test_an_offset_into_the_middle_of_a_record(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS)
    (tmp_path / "a.idx").write_text("0\t0\n1\t56\n2\t120\n")
    reader = RecordReader(tmp_path / "a.rec")
    assert reader.read(0) == PAYLOADS[0]
    with pytest.raises(BadImage, match=r"record 1 \(byte 56\): a part begins with the magic"):
        reader.read(1)
    with pytest.raises(BadImage, match=r"record 2 \(byte 120\): a part with flag 3 at byte 120"):
        reader.read(2)


def test_unknown_choice(records):
    with pytest.raises(ValueError, match=r"on_bad='ignore'"):
        RecordReader(records, on_bad="ignore")
    with pytest.raises(ValueError, match=r"on_bad='list'"):
        FaceRecords(records, on_bad="list")


# Faces


def test_labels_are_renumbered_in_ascending_order(records):
    faces = FaceRecords(records)
    assert faces.identities == [3, 7, 20]
    assert faces.labels.dtype == np.int32
    assert faces.labels.tolist() == [1, 0, 0, 2, 1, 0]
    assert "6 images of 3 identities, 1 to 3 each" in repr(faces)
    assert str(faces.paths[1]).startswith(f"{records}, record 1 (byte ")


@pytest.mark.parametrize("check", [True, False])
def test_images_are_exactly_those_of_read_face(tmp_path, check):
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        encoded(0),
        encoded(1, "PNG"),
        encoded(2, shape=(112, 112)),
        encoded(3, exif=turned),
        encoded(4, shape=(250, 250, 3)),
        encoded(5, "PNG", shape=(112, 112, 4)),
        encoded(6, progressive=True),
        encoded(7, "WEBP"),
        encoded(8, shape=(112, 112, 4), mode="CMYK"),
        encoded(9, "PNG", shape=(112, 112), dtype="uint16"),
    ]
    write(tmp_path / "a.rec", [pack_record(Record(k % 3, e)) for k, e in enumerate(kinds)])
    faces = FaceRecords(tmp_path / "a.rec", check=check)
    images, labels = collect(faces.dataset(3).as_numpy_iterator())
    np.testing.assert_array_equal(images, [decode_face(each) for each in kinds])
    np.testing.assert_array_equal(images, [read_face(path) for path in faces.paths])
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_a_hundred_thousand_identities(tmp_path):
    count = 100_000
    image = encoded(0, "PNG", shape=(1, 1, 3))
    write(tmp_path / "a.rec", (pack_record(Record(float(k), image)) for k in range(count)))
    faces = FaceRecords(tmp_path / "a.rec", check=False)
    assert faces.num_classes == len(faces) == count
    assert faces.labels.tolist() == faces.identities == list(range(count))
    first, second = faces.split(1000)
    assert not set(first.identities) & set(second.identities)
    batches = first.py_dataset(4, training=True)
    assert len(batches) == 99_000 // 4 and batches[0][0].shape == (4, 112, 112, 3)


def test_image_size(records):
    faces = FaceRecords(records, image_size=80)
    images, _ = collect(faces.dataset(4).as_numpy_iterator())
    np.testing.assert_array_equal(images, [read_face(path, 80) for path in faces.paths])


def test_a_folder_becomes_a_training_set(tmp_path):
    write_synthetic_faces(tmp_path / "people", 3, 2)
    folder = FaceFolder(tmp_path / "people")
    write_face_records(tmp_path / "a.rec", folder.paths, folder.labels)
    faces = FaceRecords(tmp_path / "a.rec")
    np.testing.assert_array_equal(faces.labels, folder.labels)
    assert faces.identities == [0, 1, 2]
    for path, image in zip(folder.paths, faces.paths, strict=True):
        np.testing.assert_array_equal(read_face(path), read_face(image))
    reader = RecordReader(tmp_path / "a.rec")
    assert reader.keys.tolist() == list(range(10))
    for key in range(7, 10):  # the range of an identity
        first, end = unpack_record(reader.read(key)).label.astype(int)
        assert {unpack_record(reader.read(each)).label for each in range(first, end)} == {key - 7}


@pytest.mark.parametrize(
    ("images", "labels", "part"),
    [
        ([b"x"], [0, 1], r"1 images, labels of shape \(2,\)"),
        ([], np.zeros(0, int), "0 images"),
        ([b"x"], [0.0], "float64"),
        ([b"x"], [-1], "labels -1 to -1"),
        ([b"x"], [2**24 + 1], "16,777,217"),
    ],
)
def test_a_training_set_that_the_format_cannot_hold(tmp_path, images, labels, part):
    with pytest.raises(ValueError, match=part):
        write_face_records(tmp_path / "a.rec", images, labels)
    assert list(tmp_path.iterdir()) == []


def test_header_numbers_that_float32_rounded(tmp_path):
    # As in Glint360K: 17,186,134 images, whose header holds 17,186,136 instead of 17,186,135.
    assert np.float32(17186135) == 17186136
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(0, pack_record(Record([17186135, 17186137], b"")))
        writer.write(17186133, face(0.0, 1))
        writer.write(17186134, face(1.0, 2))
        writer.write(17186135, pack_record(Record([1, 17186134], b"")))
        writer.write(17186136, pack_record(Record([17186134, 17186135], b"")))
    faces = FaceRecords(tmp_path / "a.rec")
    assert (len(faces), faces.skipped) == (2, [])


@pytest.fixture
def spoiled(tmp_path):
    """A set in InsightFace's layout with one of each bad record; key -> a word of its reason."""
    good = encoded(9)
    bad = [
        (Record(0.0, b""), "its image is empty"),
        (Record([0.0, 0.0], b""), "its image is empty"),
        (Record(0.0, good[: len(good) // 2]), "does not decode"),
        (Record(0.0, b"no image at all"), "not an image"),
        (Record(0.0, encoded(8, shape=(112, 96, 3))), "112x96"),
        (Record(0.5, good), "0.5"),
        (Record(-1.0, good), "-1.0"),
        (Record(float("nan"), good), "nan"),
        (Record(float("inf"), good), "inf"),
        (Record([3e7, 0.0], good), "16,777,216"),
    ]
    payloads = [pack_record(record) for record, _ in bad]
    words = [word for _, word in bad]
    payloads += [struct.pack("<IfQQ", 2**31, 0.0, 0, 0) + good, b"short"]
    words += ["2,147,483,648 numbers", "label of 24 bytes"]
    end = 3 + len(payloads)
    payloads = [
        pack_record(Record([end, end + 2], b"")),
        *(face(0.0, 1), face(1.0, 2)),
        *payloads,
        *(pack_record(Record([1, 2], b"")), pack_record(Record([2, 3], b""))),
    ]
    path = write(tmp_path / "a.rec", payloads)
    return path, dict(enumerate(words, start=3))


def test_refuse_names_what_is_bad_at_once(spoiled):
    path, words = spoiled
    with pytest.raises(ValueError, match=f"{len(words)} entries(.|\n)*and 2 more") as caught:
        FaceRecords(path)
    assert str(caught.value).count("record ") >= 10
    assert 'on_bad="skip"' in str(caught.value)


@pytest.mark.parametrize("index", ["auto", None])
def test_skip_leaves_them_out_and_warns_once(spoiled, index):
    path, words = spoiled
    with pytest.warns(UserWarning, match=f"{len(words)} entries") as warned:
        faces = FaceRecords(path, index, on_bad="skip")
    assert len(warned) == 1
    found = {int(each.path.split("record ")[1].split()[0]): each.reason for each in faces.skipped}
    assert set(found) == set(words)
    for key, word in words.items():
        assert word in found[key]
    assert faces.labels.tolist() == [0, 1]
    assert f"{len(words)} skipped" in repr(faces)


def test_without_the_check_a_bad_image_is_an_error_when_its_turn_comes(spoiled):
    import tensorflow as tf

    path, _ = spoiled
    with pytest.warns(UserWarning, match="9 entries"):  # what labels and lengths alone tell
        faces = FaceRecords(path, on_bad="skip", check=False)
    assert len(faces) == 5
    with pytest.raises((tf.errors.UnknownError, tf.errors.InvalidArgumentError), match="record 5"):
        list(faces.dataset(8))
    with pytest.raises(BadImage, match="record 5"):
        faces.py_dataset(8)[0]


def test_a_file_cut_off_behind_a_whole_index(records):
    size = records.stat().st_size
    records.write_bytes(records.read_bytes()[: size - 1000])
    with pytest.raises(ValueError, match=r"1 entry(.|\n)*record 5(.|\n)*it was cut off"):
        FaceRecords(records)
    records.write_bytes(records.read_bytes()[: size // 2])
    with pytest.raises(ValueError, match=r"\.idx, line \d: an offset must be(.|\n)*index=None"):
        FaceRecords(records)
    with pytest.warns(UserWarning, match="2 entries"):  # the index, and the record that was cut
        assert len(FaceRecords(records, on_bad="skip")) == 2


def test_what_the_index_leaves_out_is_counted(records):
    lines = records.with_suffix(".idx").read_text().splitlines(keepends=True)
    records.with_suffix(".idx").write_text("".join(lines[1:3] + lines[4:5]))
    offsets = [int(line.split()[1]) for line in lines]
    size = records.stat().st_size
    missing = offsets[1] + (offsets[4] - offsets[3]) + (size - offsets[5])
    with pytest.raises(ValueError, match=f"{missing:,} of its {size:,} bytes belong to no record"):
        FaceRecords(records)
    with pytest.warns(UserWarning, match="belong to no record"):
        faces = FaceRecords(records, on_bad="skip")
    assert faces.identities == [3, 7]
    assert len(FaceRecords(records, index=None)) == 6


def test_one_identity_only(tmp_path):
    write(tmp_path / "a.rec", [face(4.0, 1), pack_record(Record(5.0, b"junk"))])
    with pytest.raises(ValueError, match=r"Received: 1 in(.|\n)*record 1 (.|\n)*not an image"):
        FaceRecords(tmp_path / "a.rec", on_bad="skip")
