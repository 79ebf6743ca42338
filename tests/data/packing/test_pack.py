"""pack_faces: every way between two containers, stopped anywhere, on a full disk, odd images."""

import codecs
import errno
import io
import itertools
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_facemargin.data.containers import container_kind, list_faces, open_faces
from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.formats.example import pack_example
from keras_facemargin.data.formats.recordio import RecordReader, unpack_record
from keras_facemargin.data.formats.tfrecord import frame_tfrecord
from keras_facemargin.data.packing import pack as pack_module
from keras_facemargin.data.packing import sinks
from keras_facemargin.data.packing.pack import pack_faces
from keras_facemargin.data.records import write_face_records
from keras_facemargin.data.tfrecords import write_face_tfrecords
from keras_facemargin.images.image import read_face

# Numbers sort by value, before `"` and every other character.
PEOPLE = {"Ada Lovelace": 4, "Zoë Müller": 3, '"O\'Neill, Shaq"': 2, "李 娜": 3}
PEOPLE |= {"007": 1, "10": 1, "9": 1}
NUMBERS = [str(label) for label in range(len(PEOPLE))]
COUNT = sum(PEOPLE.values())
WAYS = ["tree", "a.rec", "a.tfrecord", "b.csv", "c.lst", "identity_CelebA.txt"]
SHARDS = {"a.tfrecord": 3}


def encode(pixels, kind="JPEG", **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed, shape=(112, 112, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def write(file, data):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def contents(folder):
    """Relative path -> bytes of all files."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def pack(source, destination, **options):
    shards = SHARDS.get(Path(destination).name, 1)
    return pack_faces(source, destination, progress=False, shards=shards, **options)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Five people; names with spaces, quotes, commas, umlauts and Chinese letters."""
    folder, seeds = tmp_path_factory.mktemp("source") / "people", itertools.count()
    for name, count in PEOPLE.items():
        for number in range(count):
            kind, ending = (("JPEG", "jpg"), ("PNG", "png"))[number % 2]
            write(folder / name / f"Bild {number} é.{ending}", encode(noise(next(seeds)), kind))
    return folder


@pytest.fixture(scope="module")
def sources(people, tmp_path_factory):
    """The same people in each container."""
    place = tmp_path_factory.mktemp("containers")
    for way in WAYS:
        packed = pack(people, place / way)
        assert (packed.images, packed.identities, packed.skipped) == (COUNT, len(PEOPLE), [])
    return place


def images_of(container):
    """Identity number -> the images' bytes, in order."""
    listing = list_faces(container)
    found = {}
    for image, label in zip(listing.images, listing.labels.tolist(), strict=True):
        data = Path(image).read_bytes() if isinstance(image, str) else image.read_bytes()
        found.setdefault(label, []).append(data)
    return found


# Each is read and written once; the other pairs, which read and write the same way, are slow tests.
ONCE = set(zip(WAYS, [*WAYS[1:], WAYS[0]], strict=True))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(*pair, marks=() if pair in ONCE else pytest.mark.slow)
        for pair in itertools.product(WAYS, repeat=2)
    ],
)
def test_every_pair_of_containers(people, sources, tmp_path, first, second):
    packed = pack(sources / first, tmp_path / second)
    assert (packed.images, packed.identities, packed.skipped) == (COUNT, len(PEOPLE), [])
    assert images_of(tmp_path / second) == images_of(people)
    left = [name for name in contents(tmp_path) if "draft" in name or "journal" in name]
    assert not left
    if "CelebA" not in first + second:  # the only one that loses the names
        pack(tmp_path / second, tmp_path / "back")
        assert contents(tmp_path / "back") == contents(people)


def test_packing_through_all_containers_changes_no_byte(people, tmp_path):
    ways = ["1.rec", "2.tfrecord", "3.csv", "4.lst", "5.rec", "6"]
    for source, target in itertools.pairwise([people, *(tmp_path / way for way in ways)]):
        pack(source, target)
    assert contents(tmp_path / "6") == contents(people)
    for ending in ("rec", "idx", "lst"):
        one, five = (tmp_path / f"{number}.{ending}" for number in (1, 5))
        assert one.read_bytes() == five.read_bytes()


def test_records_are_those_of_write_face_records(people, tmp_path):
    folder = FaceFolder(people)
    write_face_records(tmp_path / "theirs.rec", folder.paths, folder.labels)
    pack(people, tmp_path / "ours.rec")
    for ending in ("rec", "idx"):
        ours, theirs = (tmp_path / f"{name}.{ending}" for name in ("ours", "theirs"))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("way", ["tree", "a.rec", "a.tfrecord"])
def test_faces_have_the_same_labels_and_pixels_in_each(people, sources, way):
    ours, theirs = FaceFolder(people), open_faces(sources / way)
    assert ours.labels.tolist() == theirs.labels.tolist()
    for one, other in zip(ours.paths, theirs.paths, strict=True):
        np.testing.assert_array_equal(read_face(one), read_face(other))
    # A person is never on both sides of a split, whatever the container.
    for seed in range(5):
        first, second = theirs.split(2, seed=seed)
        assert not set(first.identities) & set(second.identities)
        ours_first, _ = ours.split(2, seed=seed)
        assert ours_first.labels.tolist() == first.labels.tolist()
        sides = [
            {path.read_bytes() for path in map(as_path, part.paths)} for part in (first, second)
        ]
        assert not sides[0] & sides[1]
        assert len(sides[0] | sides[1]) == COUNT


def as_path(path):
    return Path(path) if isinstance(path, str) else path


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Twelve people with the names 0 to 11, an image each."""
    folder = tmp_path_factory.mktemp("numbered") / "people"
    for label in range(12):
        write(folder / str(label) / "0.png", encode(noise(label, (8, 8, 3)), "PNG"))
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_whole_numbers_sort_by_value_in_every_container(numbered, tmp_path, way):
    pack(numbered, tmp_path / way)
    expected = {label: [(numbered / str(label) / "0.png").read_bytes()] for label in range(12)}
    assert images_of(numbered) == images_of(tmp_path / way) == expected
    pack(tmp_path / way, tmp_path / "again.tfrecord")
    openable = [numbered, tmp_path / "again.tfrecord"]
    if container_kind(way) in ("folder", "records", "tfrecords"):
        openable.append(tmp_path / way)
    for container in openable:
        faces = open_faces(container)
        assert faces.labels.tolist() == list(range(12))
        for label, path in enumerate(map(as_path, faces.paths)):
            assert [path.read_bytes()] == expected[label]


def test_texts_as_labels_of_a_tfrecord_have_the_same_order(tmp_path):
    names = ["Bo", "10", "9", "Ada"]
    payloads = [
        pack_example({"image/encoded": encode(noise(0)), "image/class/label": name.encode()})
        for name in names
    ]
    (tmp_path / "a.tfrecord").write_bytes(b"".join(map(frame_tfrecord, payloads)))
    assert open_faces(tmp_path / "a.tfrecord").identities == ["9", "10", "Ada", "Bo"]


def test_mxnets_own_file_is_packed_into_any_container_and_back(shared_data, tmp_path):
    source = shared_data / "mxnet" / "train.rec"
    pack(source, tmp_path / "a.tfrecord")
    packed = pack(tmp_path / "a.tfrecord", tmp_path / "tree")
    assert (packed.images, packed.identities, packed.skipped) == (479, 40, [])
    theirs = RecordReader(source)
    images = [unpack_record(payload).image for _, payload in theirs]
    assert sorted(filter(None, images)) == sorted(contents(tmp_path / "tree").values())
    assert (tmp_path / "tree" / "00" / "00_0001.jpg").exists()  # as LFW names them


# Odd and bad images


ODD = {
    "grey.jpg": encode(noise(1)[..., 0]),
    "grey alpha.png": encode(Image.fromarray(noise(2)).convert("LA"), "PNG"),
    "rgba.png": encode(noise(3, (112, 112, 4)), "PNG"),
    "cmyk.jpg": encode(Image.fromarray(noise(4)).convert("CMYK")),
    "16 bit.png": encode(noise(5)[..., 0].astype("uint16") << 8, "PNG"),
    "16 bit.tif": encode(noise(6)[..., 0].astype("uint16") << 8, "TIFF"),
    "palette.gif": encode(Image.fromarray(noise(7)).convert("P"), "GIF"),
    "large.webp": encode(noise(8, (224, 224, 3)), "WEBP"),
    "progressive.jpg": encode(noise(9), progressive=True),
}
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    ODD[f"rotated {orientation}.jpg"] = encode(noise(10), exif=exif)
WHOLE = encode(noise(11))
BAD = {
    "empty.jpg": (b"", "the file is empty (0 bytes)"),
    "half.jpg": (WHOLE[: len(WHOLE) // 2], "it does not decode to the end"),
    "half.png": (encode(noise(12), "PNG")[:9000], "it does not decode to the end"),
    "text.jpg": (b"not a picture", "not an image in JPEG, PNG, WebP, BMP, GIF, TIFF, PPM or AVIF"),
    "tall.png": (encode(noise(13, (112, 96, 3)), "PNG"), "an aligned face crop must be square"),
    "32 bit.tif": (
        encode(Image.fromarray(noise(14)[..., 0].astype("int32")), "TIFF"),
        "pixels of mode I have no agreed way to RGB 0..255",
    ),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "people"
    for person in ("a b", "ü"):
        for name, data in ODD.items():
            write(folder / person / name, data)
    for name, (data, _) in BAD.items():
        write(folder / "ü" / name, data)
    write(folder / "only bad" / "0.jpg", b"")
    write(folder / "z" / "0.png", encode(noise(20), "PNG"))
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_odd_images_pass_through_and_bad_ones_are_counted(odd, tmp_path, way):
    packed = pack(odd, tmp_path / way)
    assert packed.images == 2 * len(ODD) + 1
    assert packed.identities == 3  # one lost all its images and leaves no gap in the labels
    reasons = packed.reasons()
    assert reasons == {
        "the file is empty (0 bytes)": 2,
        "it does not decode to the end": 2,
        **{reason: 1 for _, reason in list(BAD.values())[3:]},
    }
    skipped = (tmp_path / f"{way}.skipped.csv").read_text(encoding="utf-8")
    assert len(skipped.splitlines()) == len(BAD) + 1
    assert f"{odd}/ü/half.jpg,it does not decode" in skipped
    pack(tmp_path / way, tmp_path / "again")  # out of the container, they are the same
    faces = FaceFolder(tmp_path / "again")
    assert faces.num_classes == 3
    expected = [read_face(odd / "a b" / name) for name in sorted(ODD)]
    for label in (0, 2):
        rows = np.flatnonzero(faces.labels == label)
        images = [read_face(faces.paths[row]) for row in rows]
        if "CelebA" in way:
            assert len(images) == len(expected)
        else:
            np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("way", ["tree", "a.rec", "a.tfrecord"])
def test_the_pipeline_reads_odd_images_by_the_same_rules(odd, tmp_path, way):
    pack(odd, tmp_path / way)
    faces = open_faces(tmp_path / way)
    images = np.concatenate([batch for batch, _ in faces.dataset(16).as_numpy_iterator()])
    np.testing.assert_array_equal(images, [read_face(path) for path in faces.paths])


@pytest.mark.parametrize("way", WAYS)
def test_a_source_without_good_images_leaves_no_file(tmp_path, way):
    for person in "ab":
        write(tmp_path / "in" / person / "0.jpg", b"")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"(?s)Received: 0 in .*in has 2 entries.*0 bytes"):
        pack(tmp_path / "in", tmp_path / "out" / way)
    assert list((tmp_path / "out").iterdir()) == []


# Lists


def test_lists_of_other_programs(people, tmp_path):
    files = sorted(str(path.relative_to(people)) for path in people.rglob("*.*"))
    numbers = [sorted(PEOPLE).index(name.split("/")[0]) for name in files]
    texts = {
        "head.csv": ["identity,path"]
        + [f'{n},"{f.replace(chr(34), chr(34) * 2)}"' for f, n in zip(files, numbers, strict=True)],
        "two.lst": [f"{f}\t{n}" for f, n in zip(files, numbers, strict=True)],
        "mxnet.lst": [
            f"{row}\t{n}.000000\t{f}" for row, (f, n) in enumerate(zip(files, numbers, strict=True))
        ],
        "insightface.lst": [f"1\t{f}\t{n}" for f, n in zip(files, numbers, strict=True)],
        "celeba.txt": [f"{f} {n}" for f, n in zip(files, numbers, strict=True)],
    }
    for name, lines in texts.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n\n", encoding="utf-8")
        listing = list_faces(tmp_path / name, images=people)
        assert listing.labels.tolist() == sorted(numbers), name
        assert listing.identities == NUMBERS
        paths = sorted(str(Path(path).relative_to(people)) for path in listing.images)
        assert paths == files
        assert listing.size == sum(path.stat().st_size for path in people.rglob("*.*"))


def test_celebas_own_layout(people, tmp_path):
    pack(people, tmp_path / "Anno" / "identity_CelebA.txt")
    (tmp_path / "Img").mkdir()
    os.rename(tmp_path / "Anno" / "img_align_celeba", tmp_path / "Img" / "img_align_celeba")
    assert images_of(tmp_path / "Anno" / "identity_CelebA.txt") == images_of(people)


def test_faults_of_a_list_are_reported(people, tmp_path):
    file = Path("007") / "Bild 0 é.jpg"
    lines = [
        f"{file},a",
        f"{file},b",
        "gone.jpg,b",
        "no label",
        "",
        f'"{file},a',
        f"../people/{file},a",
        f"../{file},a",
        f"/etc/{file},a",
        f"{file},../../b",
        f"{file},.hidden",
        f"{file},",
        f"{file}," + "x" * 300,
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    packed = pack(tmp_path / "a.csv", tmp_path / "tree", images=people)
    assert (packed.images, packed.identities) == (3, 2)
    assert packed.reasons() == {
        "its identity must be usable as the name of a file": 3,
        "a line must be PATH,LABEL (or line 1 names the columns, `path` and `label` among them)": 2,
        f"its path must be below {people}": 2,
        "its identity must have at most 255 bytes to be the name of a file": 1,
        "it cannot be read": 1,
    }
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["a", "b"]


def test_duplicate_names_get_a_number(people, tmp_path):
    for folder in "xyz":
        shutil.copytree(people / "007", tmp_path / "in" / folder)
    lines = [f"in/{folder}/Bild 0 é.jpg,a" for folder in "xyz"] + ["in/x/Bild 0 é.jpg,b"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    pack(tmp_path / "a.csv", tmp_path / "tree")
    names = [f"a/Bild 0 é{number}.jpg" for number in ("", "-2", "-3")]
    assert sorted(contents(tmp_path / "tree")) == sorted([*names, "b/Bild 0 é.jpg"])


ODD_NAMES = [
    "a\tb.png",
    "a\nb.png",
    "a\rb.png",
    'a"b.png',
    "a,b.png",
    "a\u2028b.png",
    "ä\udcff.png",
]


@pytest.mark.parametrize(
    ("way", "lost"),
    [
        ("tree", 0),
        ("a.tfrecord", 0),
        ("a.rec", 3),
        ("b.csv", 2),
        ("c.lst", 3),
        ("identity_CelebA.txt", 2),
    ],
)
def test_names_that_would_break_a_list_are_skipped_by_name(tmp_path, way, lost):
    for person, name in itertools.product(("Ada", "Bo\udcfc"), ODD_NAMES):
        write(tmp_path / "in" / person / name, encode(noise(0, (8, 8, 3)), "PNG"))
    write(tmp_path / "in" / "Ada" / "bad\r\n\udcff.png", b"")
    packed = pack(tmp_path / "in", tmp_path / way)
    assert packed.images + len(packed.skipped) == 2 * len(ODD_NAMES) + 1
    reason = f"its name or identity has a tab or a line break, which a *{Path(way).suffix} cannot"
    lost_too = {reason: 2 * lost} if lost else {}
    assert packed.reasons() == {"the file is empty (0 bytes)": 1, **lost_too}
    assert f"{tmp_path}/in/Ada/bad\r\n\udcff.png" in [bad.path for bad in packed.skipped]
    if way != "identity_CelebA.txt":
        pack(tmp_path / way, tmp_path / "again")
        kept = ["a\tb.png", *ODD_NAMES[3:]] if way == "b.csv" else ODD_NAMES[lost:]
        assert sorted(contents(tmp_path / "again")) == sorted(
            f"{person}/{name}" for person in ("Ada", "Bo\udcfc") for name in kept
        )


@pytest.mark.parametrize("way", ["b.csv", "c.lst"])
def test_an_identity_that_changes_in_a_list_is_skipped_by_name(tmp_path, way):
    for person in ("3", "3.0", " 3", "Ada"):
        write(tmp_path / "in" / person / "0.png", encode(noise(0, (8, 8, 3)), "PNG"))
    packed = pack(tmp_path / "in", tmp_path / way)
    assert packed.reasons() == {"its identity changes in a list": 2}
    assert list_faces(tmp_path / way).identities == ["3", "Ada"]


def test_an_unrelated_list_beside_the_records_is_ignored(people, tmp_path):
    pack(people, tmp_path / "a.rec")
    file = tmp_path / "a.lst"
    names = list_faces(tmp_path / "a.rec").names
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes() + b"\n \n")
    assert list_faces(tmp_path / "a.rec").names == names
    lines = file.read_text(encoding="utf-8-sig").splitlines()[:COUNT]
    for other in (lines[:-1], [*lines, lines[-1]], [line.replace("/", "") for line in lines], []):
        file.write_text("\n".join(other), encoding="utf-8")
        listing = list_faces(tmp_path / "a.rec")
        assert (listing.identities, listing.names) == (NUMBERS, None)


# Wrong doors


@pytest.mark.parametrize(
    ("source", "destination", "options", "message"),
    [
        ("people", "a.zip", {}, r"folder or a file \*.rec, .*Received: .*a.zip"),
        ("people", "a.rec", {"shards": 2}, "99,999 for a .tfrecord, .*Received: shards=2"),
        ("people", "a.tfrecord", {"shards": 0}, "Received: shards=0"),
        ("people", "people/a.rec", {}, "outside the source"),
        ("people", "people", {}, "outside the source"),
        ("people", "a.rec", {"images": "x"}, "`images` needs a list .*Received: images='x'"),
        ("gone", "a.rec", {}, "must be a folder of identity folders"),
    ],
)
def test_wrong_doors(people, source, destination, options, message, tmp_path):
    shutil.copytree(people, tmp_path / "people")
    with pytest.raises(ValueError, match=message):
        pack_faces(tmp_path / source, tmp_path / destination, **options)


def test_a_folder_with_one_image_is_refused(tmp_path):
    write(tmp_path / "one" / "Ada" / "1.jpg", encode(noise(0)))
    for way in WAYS:
        with pytest.raises(ValueError, match=r"at least two identities .*Received: 1 in .*one"):
            pack(tmp_path / "one", tmp_path / way)
    assert sorted(contents(tmp_path)) == ["one/Ada/1.jpg"]


def test_existing_files_are_not_overwritten(people, tmp_path):
    for way in ("tree", "a.rec"):
        pack(people, tmp_path / way)
    before = contents(tmp_path)
    for way in ("tree", "a.rec"):
        with pytest.raises(FileExistsError, match=r"is not overwritten. Received: .*"):
            pack(people, tmp_path / way)
    assert contents(tmp_path) == before


def test_lists_are_packed_before_they_are_opened(sources):
    with pytest.raises(ValueError, match=r"facemargin pack .*b.csv DESTINATION"):
        open_faces(sources / "b.csv")
    assert container_kind(sources / "b.csv") == "list"


# Stopped and resumed


class Killed(BaseException):
    """Like a signal: no handler catches it."""


@pytest.mark.parametrize("way", WAYS)
def test_a_run_stopped_at_every_image_ends_with_the_same_bytes(odd, tmp_path, monkeypatch, way):
    monkeypatch.setattr(pack_module, "_JOURNALLED", 3)
    pack(odd, tmp_path / "whole" / way)
    write_bytes = sinks.SINKS[container_kind(way)].write
    calls, stops = itertools.count(), 0

    def stopped(sink, *arguments):
        if next(calls) % 5 == 4:
            raise Killed
        write_bytes(sink, *arguments)

    monkeypatch.setattr(sinks.SINKS[container_kind(way)], "write", stopped)
    while True:
        try:
            packed = pack(odd, tmp_path / "stopped" / way)
            break
        except Killed:
            stops += 1
    assert stops > 5
    assert (packed.images, packed.identities) == (2 * len(ODD) + 1, 3)
    assert sum(packed.reasons().values()) == len(BAD) + 1
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    # `b.csv` is a tree and a list, as are the last two.
    "way",
    [
        pytest.param(way, marks=() if way in ("a.rec", "a.tfrecord", "b.csv") else pytest.mark.slow)
        for way in WAYS
    ],
)
def test_killed_by_the_system_anywhere_it_ends_with_the_same_bytes(odd, tmp_path, monkeypatch, way):
    """SIGKILL before every call that touches the disk, in turn, until one run comes through."""
    monkeypatch.setattr(pack_module, "_JOURNALLED", 8)
    pack(odd, tmp_path / "whole" / way)
    kills, at = 0, 0
    while True:
        child = os.fork()
        if not child:  # ends before its call number `at`
            steps = itertools.count()

            def counted(function, limit=at, steps=steps):
                def call(*arguments, **options):
                    if next(steps) == limit:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*arguments, **options)

                return call

            for name in ("rename", "replace", "fsync", "remove"):
                setattr(os, name, counted(getattr(os, name)))
            code = 1
            try:
                pack(odd, tmp_path / "killed" / way)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            kills, at = kills + 1, at + 1 if kills < 12 else at + 2
            continue
        assert os.WEXITSTATUS(status) == 0
        break
    assert kills >= 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_changed_source_is_refused(people, tmp_path, monkeypatch):
    shutil.copytree(people, tmp_path / "people")
    monkeypatch.setattr(pack_module, "_JOURNALLED", 2)
    finish = sinks.RecordSink.finish
    monkeypatch.setattr(sinks.RecordSink, "finish", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        pack(tmp_path / "people", tmp_path / "a.rec")
    monkeypatch.setattr(sinks.RecordSink, "finish", finish)
    os.rename(tmp_path / "people" / "007", tmp_path / "people" / "008")
    with pytest.raises(ValueError, match=r"remove .*a.rec.journal to start from"):
        pack(tmp_path / "people", tmp_path / "a.rec")
    os.remove(tmp_path / "a.rec.journal")
    assert pack(tmp_path / "people", tmp_path / "a.rec").images == COUNT


def kill_at_the_renames(monkeypatch, source, destination, **options):
    """A call that is stopped when all is written and one name of three or so is given."""
    renames = itertools.count()

    def rename(*names):
        if next(renames):
            raise Killed
        os.replace(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(Killed):
            pack(source, destination, **options)


@pytest.mark.parametrize("way", WAYS)
def test_a_call_with_other_arguments_does_not_take_finished_files(people, numbered, tmp_path, way):
    source = tmp_path / "source"
    shutil.copytree(people, source)
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at_the_renames(monkeypatch, source, tmp_path / way)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"Cannot resume: .*journal of"):
        pack(numbered, tmp_path / way)
    write(source / "9" / "0.png", b"other bytes")
    with pytest.raises(ValueError, match=r"Cannot resume: the source"):
        pack(source, tmp_path / way)
    shutil.rmtree(source)
    shutil.copytree(people, source)
    assert contents(tmp_path) == before
    assert pack(source, tmp_path / way).images == COUNT
    assert images_of(tmp_path / way) == images_of(people)


def test_a_list_resumes_only_with_the_same_images(numbered, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("".join(f"{n}/0.png,{n}\n" for n in range(12)))
    shutil.copytree(numbered, tmp_path / "others")
    kill_at_the_renames(monkeypatch, tmp_path / "a.csv", tmp_path / "a.rec", images=numbered)
    with pytest.raises(ValueError, match=r"Cannot resume: .*arguments"):
        pack(tmp_path / "a.csv", tmp_path / "a.rec", images=tmp_path / "others")
    assert pack(tmp_path / "a.csv", tmp_path / "a.rec", images=numbered).images == 12


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"7", b"\xff\xfe{}", b"[" * 100_000])
def test_a_file_that_is_not_a_journal_is_refused(numbered, tmp_path, text):
    (tmp_path / "a.rec.journal").write_bytes(text)
    with pytest.raises(ValueError, match=r"a.rec.journal.* must be a journal of `pack`"):
        pack(numbered, tmp_path / "a.rec")


# Two at one place


@pytest.mark.parametrize(
    ("first", "second"),
    [(way, way) for way in WAYS]
    + [("a.rec", "a.lst"), ("a.csv", "a.lst"), ("a", "a.csv"), ("a.txt", "b.txt")],
)
def test_a_second_call_with_the_same_destination_is_refused(
    numbered, tmp_path, monkeypatch, first, second
):
    write_one = sinks.SINKS[container_kind(first)].write

    def write_and_call(sink, *arguments):
        with pytest.raises(BlockingIOError, match="Another process is writing to"):
            pack(numbered, tmp_path / second)
        write_one(sink, *arguments)

    monkeypatch.setattr(sinks.SINKS[container_kind(first)], "write", write_and_call)
    assert pack(numbered, tmp_path / first).images == 12
    assert not [name for name in contents(tmp_path) if "lock" in name]


WRITERS = {"a.rec": write_face_records, "a.tfrecord": write_face_tfrecords}


class Images(list):
    """Two images; before each is read, `then()` happens."""

    def __init__(self, then):
        super().__init__([encode(noise(0))] * 2)
        self.then = then

    def __getitem__(self, row):
        self.then()
        return super().__getitem__(row)


@pytest.mark.parametrize("name", WRITERS)
def test_the_other_writers_hold_the_lock_too(tmp_path, name):
    def write_there():
        with pytest.raises(BlockingIOError, match="Another process"):
            WRITERS[name](tmp_path / name, [b"a", b"b"], [0, 1])

    WRITERS[name](tmp_path / name, Images(write_there), [0, 1])
    assert len(open_faces(tmp_path / name)) == 2


@pytest.mark.parametrize("name", WRITERS)
def test_the_other_writers_name_the_file_of_a_full_disk(tmp_path, name):
    def fill():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="The disk is full") as caught:
        WRITERS[name](tmp_path / name, Images(fill), [0, 1])
    assert caught.value.filename == str(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# Written bytes are read again


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("damage", ["changed", "longer"])
def test_changed_bytes_are_refused(numbered, tmp_path, monkeypatch, way, damage):
    sink_type = sinks.SINKS[container_kind(way)]
    finish = sink_type.finish

    def finish_and_damage(sink, images):
        finish(sink, images)
        sink.flush()
        draft = next(draft for draft, final in sink.moves() if Path(final).suffix != ".csv")
        draft = Path(draft)
        if draft.is_dir():
            draft = draft / "5" / "0.png" if way != "identity_CelebA.txt" else draft / "000006.png"
        data = bytearray(draft.read_bytes())
        if damage == "changed":
            data[len(data) // 2] ^= 1
        draft.write_bytes(data + (b"" if damage == "changed" else b"x"))

    with monkeypatch.context() as patch:
        patch.setattr(sink_type, "finish", finish_and_damage)
        with pytest.raises(OSError, match="must have the written bytes when it is read again"):
            pack(numbered, tmp_path / way)
    assert list(tmp_path.iterdir()) == []
    assert pack(numbered, tmp_path / way).images == 12


@pytest.mark.parametrize("place", [0, 40, -1])
def test_every_byte_of_the_records_is_read_again(numbered, tmp_path, monkeypatch, place):
    finish = sinks.RecordSink.finish

    def finish_and_damage(sink, images):
        finish(sink, images)
        sink.flush()
        file = tmp_path / "a.rec.draft"
        data = bytearray(file.read_bytes())
        data[place] ^= 1
        file.write_bytes(data)

    monkeypatch.setattr(sinks.RecordSink, "finish", finish_and_damage)
    with pytest.raises(OSError, match=r"a.rec.draft: the file must"):
        pack(numbered, tmp_path / "a.rec")


# A full disk


@pytest.mark.parametrize("way", WAYS)
def test_a_small_disk_is_reported_before_the_first_byte(people, tmp_path, monkeypatch, way):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        OSError, match=r"disk is full: .* needs about 0\.\d MiB more for .* has 0\.0"
    ):
        pack(people, tmp_path / way)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_that_fills_up_loses_nothing(people, tmp_path, monkeypatch, way):
    monkeypatch.setattr(pack_module, "_JOURNALLED", 2)
    pack(people, tmp_path / "whole" / way)
    put, put_file = sinks.Sink.put, sinks.FolderSink.write_file
    room = [60_000]

    def take(data):
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def small_put(sink, file, data):
        take(data)
        put(sink, file, data)

    def small_put_file(sink, name, encoded):
        take(encoded)
        put_file(sink, name, encoded)

    monkeypatch.setattr(sinks.Sink, "put", small_put)
    monkeypatch.setattr(sinks.FolderSink, "write_file", small_put_file)
    failures = 0
    while True:
        try:
            pack(people, tmp_path / "full" / way)
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert "MiB more for" in str(error)
            assert f"of {COUNT} images stay; make room and call again" in str(error)
            failures += 1
            room[0] = 120_000
    assert failures >= 2
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


# Size


@pytest.mark.slow
def test_a_hundred_thousand_identities(tmp_path):
    count = 100_000
    pixel = encode(noise(0, (1, 1, 3)), "PNG")
    write_face_records(tmp_path / "a.rec", [pixel] * count, np.arange(count))
    packed = pack_faces(tmp_path / "a.rec", tmp_path / "b.tfrecord", shards=7, progress=False)
    assert (packed.images, packed.identities, packed.skipped) == (count, count, [])
    pack_faces(tmp_path / "b.tfrecord", tmp_path / "c.rec", progress=False)
    for ending in ("rec", "idx"):
        ours, theirs = (tmp_path / f"{name}.{ending}" for name in "ca")
        assert ours.read_bytes() == theirs.read_bytes()
