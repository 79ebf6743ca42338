"""RecordIO: the same bytes as MXNet, and a report of all damage."""

import multiprocessing
import pickle
import struct
import threading
import tracemalloc

import numpy as np
import pytest
from recordio_files import MAGIC, im2rec, write

from keras_facemargin.data import problems
from keras_facemargin.data.formats.recordio import (
    Record,
    RecordReader,
    RecordWriter,
    pack_record,
    unpack_record,
)
from keras_facemargin.data.records import FaceRecords
from keras_facemargin.images.image import BadImage


@pytest.fixture
def records(tmp_path):
    return im2rec(tmp_path)


# Files that MXNet wrote


@pytest.mark.parametrize(("name", "count"), [("train", 520), ("multipart", 12)])
def test_mxnets_files_are_copied_byte_for_byte(shared_data, tmp_path, name, count):
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
def test_mxnets_files_read_the_same_without_their_index(shared_data, name):
    source = shared_data / "mxnet" / f"{name}.rec"
    assert list(RecordReader(source, index=None)) == list(RecordReader(source))


def test_mxnets_parts_are_joined_with_the_magic_between_them(shared_data):
    lines = (shared_data / "mxnet" / "multipart.expected.txt").read_text().split("\n")
    images = [
        unpack_record(payload).image.hex()
        for _, payload in RecordReader(shared_data / "mxnet" / "multipart.rec")
    ]
    assert images == lines[:12]


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


def test_payloads_with_magics_anywhere_are_restored(tmp_path):
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


def test_a_failed_writer_keeps_the_old_file(tmp_path):
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


def test_threads_read_at_the_same_time(records):
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
def test_processes_read_at_the_same_time(records, method):
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


def test_a_closed_reader_is_refused(records):
    reader = RecordReader(records)
    reader.close()
    with pytest.raises(ValueError, match="closed file"):
        reader.read(0)


def test_a_pickled_reader_refuses_another_file(records):
    pickled = pickle.dumps(RecordReader(records))
    records.write_bytes(records.read_bytes()[:-4])
    with pytest.raises(ValueError, match="must not have changed"):
        pickle.loads(pickled)


def test_reading_without_pread(records, monkeypatch):
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


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"")
    for on_bad in ("refuse", "skip", "list"):
        with pytest.raises(ValueError, match=r"a\.rec of 0 bytes"):
            RecordReader(tmp_path / "a.rec", on_bad=on_bad)
    with pytest.raises(FileNotFoundError):
        RecordReader(tmp_path / "gone.rec")


@pytest.mark.parametrize("content", [b"x", b"not a record file", MAGIC, b"\0" * 5000])
def test_a_file_without_a_record_is_refused(tmp_path, content):
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


def test_a_wrong_magic_loses_only_its_own_record(tmp_path):
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
def test_a_damaged_length_loses_only_its_own_record(tmp_path, length):
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
    # A length that ends within padding looks like a correct one; any other is detected.
    assert reader.skipped or length == 44


@pytest.mark.parametrize("flag", range(4, 8))
def test_unknown_flags_are_bad(tmp_path, flag):
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


def test_chains_of_parts_with_a_common_tail_are_read_once(tmp_path):
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
    # Heads that announce nothing, too much, or the rest of the file; garbage follows each.
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


def test_a_completely_damaged_file_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(problems, "_MOST_BAD", 50)
    head = MAGIC + struct.pack("<I", (1 << 29) - 1)
    (tmp_path / "a.rec").write_bytes(head * 50)
    with pytest.raises(ValueError, match="50 entries that are not records"):
        RecordReader(tmp_path / "a.rec")
    (tmp_path / "a.rec").write_bytes(head * 51)
    with pytest.raises(ValueError, match=r"more than 50 damaged places. Received: the last at"):
        RecordReader(tmp_path / "a.rec", on_bad="skip")


def test_a_magic_between_two_searched_blocks_is_found(tmp_path):
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


def test_an_index_that_is_not_text(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS)
    (tmp_path / "a.idx").write_bytes((tmp_path / "a.rec").read_bytes())
    with pytest.raises(ValueError, match="line 1"):
        RecordReader(tmp_path / "a.rec")


def test_an_index_written_on_windows(tmp_path):
    write(tmp_path / "a.rec", PAYLOADS)
    lines = (tmp_path / "a.idx").read_bytes()
    (tmp_path / "a.idx").write_bytes(lines.replace(b"\n", b"\r\n").rstrip())
    assert list(RecordReader(tmp_path / "a.rec")) == list(enumerate(PAYLOADS))


def test_an_index_in_another_folder(tmp_path):
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
