"""Verification files of any origin are read without executing them."""

import ast
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_facemargin import pickles
from keras_facemargin.data.formats import pairs_bin
from keras_facemargin.data.formats.pairs_bin import PairsBin, write_pairs_bin
from keras_facemargin.images.image import BadImage, read_face

IMAGES = [bytes(range(256)), b"\xff\xd8'\"\\\n\r\t\x00 ab\xe9\\u0041" * 30, b"", b"x\n"]


@pytest.fixture
def open_bytes(tmp_path):
    def open_bytes(content):
        (tmp_path / "pairs.bin").write_bytes(content)
        return PairsBin(tmp_path / "pairs.bin")

    return open_bytes


def images(pairs):
    return [image.read_bytes() for image in pairs.images]


# What there is in the wild


@pytest.mark.parametrize(("name", "count"), [("py3", 150), ("py2", 150), ("numpy", 20)])
def test_files_of_python_3_python_2_and_numpy(shared_data, name, count):
    file = shared_data / "mxnet" / f"pairs_{name}.bin"
    pairs = PairsBin(file)
    with open(file, "rb") as stream:  # of our own making, so it may be loaded
        expected, same = pickle.load(stream, encoding="bytes")
    assert len(pairs) == count
    assert pairs.same.tolist() == [bool(each) for each in same]
    assert images(pairs) == [
        each if isinstance(each, bytes) else each.tobytes() for each in expected
    ]
    for first, second, _ in pairs:
        assert read_face(first).shape == read_face(second).shape == (112, 112, 3)


def test_a_real_file_takes_the_memory_of_its_table(shared_data):
    tracemalloc.start()
    pairs = PairsBin(shared_data / "mxnet" / "pairs_py3.bin")
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert os.path.getsize(pairs.file) > 1.2e6
    assert held < 50e3
    assert peak < 400e3


IMAGE_FORMS = {
    "bytes": bytes,
    "(n,)": lambda data: np.frombuffer(data, "uint8").copy(),
    "(n, 1)": lambda data: np.frombuffer(data, "uint8").reshape(-1, 1).copy(),
    "(1, n)": lambda data: np.frombuffer(data, "uint8").reshape(1, -1).copy(),
    "bytearray": bytearray,
}
TRUTH_FORMS = {
    "bools": [True, False],
    "ints": [1, 0],
    "tuple": (True, False),
    "numpy bools": [np.bool_(True), np.bool_(False)],
    "numpy ints": [np.int64(1), np.int64(0)],
    "bool array": np.array([True, False]),
    "int array": np.array([1, 0]),
    "big-endian array": np.array([1, 0], ">i4"),
    "byte array": np.array([1, 0], "uint8"),
    "floats": [1.0, 0.0],
    "numpy floats": [np.float32(1), np.float64(0)],
    "float array": np.array([1.0, 0.0]),
    "array of objects": np.array([True, False], object),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", IMAGE_FORMS)
@pytest.mark.parametrize("truths", TRUTH_FORMS)
def test_every_protocol_and_form(open_bytes, protocol, form, truths):
    content = (list(map(IMAGE_FORMS[form], IMAGES)), TRUTH_FORMS[truths])
    pairs = open_bytes(pickle.dumps(content, protocol))
    assert images(pairs) == IMAGES
    assert pairs.same.tolist() == [True, False]
    assert pairs.same.dtype == bool


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", ["bytes", "(n,)", "bytearray"])
def test_images_in_an_array_of_objects(open_bytes, protocol, form):
    """What people write themselves: `pickle.dump((np.array(raw, object), np.array(same)))`."""
    array = np.empty(len(IMAGES), object)
    array[:] = list(map(IMAGE_FORMS[form], IMAGES))
    pairs = open_bytes(pickle.dumps((array, np.array([True, False])), protocol))
    assert images(pairs) == IMAGES
    assert pairs.same.tolist() == [True, False]


@pytest.mark.parametrize("old", [b"numpy._core.multiarray", b"numpy._core.numeric"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_names_of_numpy_1(open_bytes, protocol, old):
    content = pickle.dumps(([np.frombuffer(b"abc", "u1").copy()] * 2, [True]), protocol)
    new = old.replace(b"_core", b"core")
    content = content.replace(bytes([len(old)]) + old, bytes([len(new)]) + new)
    pairs = open_bytes(content.replace(old, new))
    assert images(pairs) == [b"abc", b"abc"]


def python_2(payloads, protocol):
    """What Python 2's `pickle.dumps((payloads, [True]), protocol)` gives for byte strings."""
    if protocol == 0:
        quoted = b"".join(b"S" + repr(each)[1:].encode() + b"\na" for each in payloads)
        return b"((lp0\n" + quoted + b"(lp1\nI01\natp2\n."
    parts = [
        b"U" + bytes([len(each)]) + each
        if len(each) < 256
        else b"T" + struct.pack("<i", len(each)) + each
        for each in payloads
    ]
    return b"\x80\x02]q\x00(" + b"".join(parts) + b"e]q\x01\x88a\x86q\x02."


@pytest.mark.parametrize("protocol", [0, 2])
def test_strings_of_python_2(open_bytes, protocol):
    payloads = [bytes(range(256)) * 2, b'it\'s "quoted"\n\\']
    content = python_2(payloads, protocol)
    assert pickle.loads(content, encoding="bytes") == (payloads, [True])
    assert images(open_bytes(content)) == payloads


def test_an_image_of_several_pairs_is_stored_once(open_bytes):
    face = bytes(100)
    content = pickle.dumps(([face, b"1", face, b"2"], [True, False]), 4)
    assert len(content) < 200
    assert images(open_bytes(content)) == [face, b"1", face, b"2"]


# Ours


def noise(seed):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (112, 112, 3)).astype("uint8")
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_written_files_are_read_by_any_loader(tmp_path):
    faces = [noise(seed) for seed in range(6)]
    (tmp_path / "five.png").write_bytes(faces[5])
    same = np.array([True, False, True])
    write_pairs_bin(tmp_path / "a.bin", [*faces[:5], tmp_path / "five.png"], same)
    with open(tmp_path / "a.bin", "rb") as stream:
        assert pickle.load(stream, encoding="bytes") == (faces, [True, False, True])
    pairs = PairsBin(tmp_path / "a.bin")
    assert images(pairs) == faces
    np.testing.assert_array_equal(pairs.same, same)
    write_pairs_bin(tmp_path / "b.bin", pairs.images, pairs.same)
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert "3 pairs, 2 of one person" in repr(pairs)
    assert len({*pairs.images, *pairs.images}) == 6  # equal images are equal keys
    assert str(pairs.images[-1]) == f"{tmp_path}/a.bin, image 5"
    assert [str(each)[-1] for each in pairs.images[1:4:2]] == ["1", "3"]
    with pytest.raises(IndexError):
        pairs.images[6]


@pytest.mark.parametrize(("count", "truths"), [(0, 0), (1, 1), (2, 2), (4, 1)])
def test_impossible_pairs_are_refused(tmp_path, count, truths):
    with pytest.raises(ValueError, match=f"{count} images, {truths} truths"):
        write_pairs_bin(tmp_path / "a.bin", [b"x"] * count, [True] * truths)
    with pytest.raises(FileNotFoundError):
        write_pairs_bin(tmp_path / "a.bin", [b"x", tmp_path / "gone.png"], [True])
    assert list(tmp_path.iterdir()) == []


# What would run a command


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(mark):
    command = f"touch {mark}"
    nested = ([Call(eval, "1"), b"x"], [True])
    yield "os.system", pickle.dumps(Call(os.system, command)), "system"
    yield "in the images", pickle.dumps(([Call(os.system, command), b""], [True])), "system"
    yield "in the truths", pickle.dumps(([b"", b""], [Call(eval, f"open({mark!r}, 'w')")])), "eval"
    yield "nested", pickle.dumps(Call(Call, Call, nested)), "Call"
    for protocol in range(6):
        yield f"eval {protocol}", pickle.dumps(Call(eval, f"open({mark!r}, 'w')"), protocol), "eval"
    for module in ("os", "posix", "nt", "subprocess", "builtins", "__builtin__"):
        text = f"c{module}\nsystem\n(S'{command}'\ntR.".encode()
        yield f"{module}.system", text, f"'{module}.system'"
        yield (
            f"INST {module}",
            f"(S'{command}'\ni{module}\nsystem\n.".encode(),
            f"'{module}.system'",
        )
    stacked = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(command)])
    yield "STACK_GLOBAL", stacked + command.encode() + b"\x85R.", "'posix.system'"
    yield "dotted", b"\x80\x04\x8c\x05numpy\x8c\x0bf2py.system\x93.", "'numpy.f2py.system'"
    yield "numpy's own", b"cnumpy.testing._private.utils\nruncstring\n.", "runcstring"
    yield "numpy load", b"cnumpy\nload\n(S'x'\ntR.", "'numpy.load'"
    yield (
        "codec bomb",
        b"c_codecs\nencode\n(Vx\nVbz2_codec\ntR.",
        "encode has arguments",
    )
    yield (
        "codec escape",
        b"c_codecs\nencode\n(Vx\nVraw\ntR.",
        "encode has arguments",
    )
    yield (
        "dtype of objects",
        b"cnumpy\ndtype\n(Vu1\nI1\nI1\ntR.",
        "dtype has arguments",
    )
    yield (
        "call an array",
        b"cnumpy\nndarray\n((I99999999\nI99999999\nttR.",
        "array has arguments",
    )
    yield "call a number", b"I5\n)R.", "has arguments that it never takes"
    yield "set a state on a name", b"cnumpy\nndarray\n(I1\nI2\ntb.", "a state"
    yield "OBJ", b"(cnumpy\nndarray\no.", "OBJ"
    yield "NEWOBJ", b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"
    yield "NEWOBJ_EX", b"\x80\x04cnumpy\nndarray\n)}\x92.", "EMPTY_DICT"
    yield "PERSID", b"Pwhat\n.", "PERSID"
    yield "EXT1", b"\x80\x02\x82\x01.", "EXT1"
    yield "out of band", b"\x80\x05\x97.", "NEXT_BUFFER"


NAMES = [name for name, _, _ in attacks("")]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_not_executed(open_bytes, tmp_path, monkeypatch, name):
    ran = []
    monkeypatch.setattr(pickle, "Unpickler", lambda *_: ran.append("pickle"))
    monkeypatch.setattr(pickle, "loads", lambda *_: ran.append("pickle"))
    mark = tmp_path / "ran"
    content, word = next((c, w) for n, c, w in attacks(str(mark)) if n == name)
    for function in ("os.system", "builtins.eval", "builtins.exec"):
        monkeypatch.setattr(function, lambda *_, function=function: ran.append(function))
    try:
        with pytest.raises(ValueError, match="must be a pickle of two sequences") as caught:
            open_bytes(content)
    finally:
        monkeypatch.undo()
    assert word in str(caught.value)
    assert f"{tmp_path}/pairs.bin" in str(caught.value)
    assert ran == []
    assert not mark.exists()


def test_a_refused_name_reports_that_nothing_was_executed(open_bytes):
    with pytest.raises(ValueError, match=r"'os\.system': that is refused, and nothing of the file"):
        open_bytes(b"cos\nsystem\n(S'true'\ntR.")


def test_the_attack_would_have_worked(tmp_path):
    mark = tmp_path / "ran"
    content = next(c for n, c, _ in attacks(str(mark)) if n == "os.system")
    pickle.loads(content)
    assert mark.exists()


def test_the_package_never_loads_a_pickle():
    source = Path(pairs_bin.__file__).read_text("utf-8") + Path(pickles.__file__).read_text("utf-8")
    tree = ast.parse(source)
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "pickletools" in imported  # for the names of the instructions
    assert not imported & {"pickle", "importlib", "builtins", "sys", "subprocess"}


# What would fill the memory, or never end


def bombs():
    yield "laughs", b"(" + b"]" + b"q\x01" + b"(h\x01h\x01h\x01h\x01tq\x01" * 5000 + b"."
    yield "memo", b"Nr\xff\xff\xff\xff."
    yield "long memo", b"N" + b"".join(b"r" + struct.pack("<I", k) for k in range(40000)) + b"0"
    yield "bytes", b"B\xff\xff\xff\xffabc"
    yield "bytes8", b"\x8e" + b"\xff" * 7 + b"\x7fabc"
    yield "bytes8 past", b"\x8e" + b"\xff" * 8 + b"abc"
    yield "bytearray8", b"\x96" + b"\xff" * 5 + b"\0\0\0abc"
    yield "negative", b"T\xff\xff\xff\xffabc"
    yield "frame", b"\x80\x04\x95" + b"\xff" * 8 + b"N."
    yield "long", b"\x8b\xff\xff\xff\x7f123"
    yield "long1", b"\x8a\xff" + b"\x7f" * 255 + b"."
    yield "digits", b"I" + b"9" * 1_000_000 + b"\n."
    yield "lists", b"]" * 2_000_000
    yield "marks", b"(" * 2_000_000
    yield "memoize", b"N" + b"\x94" * 2_000_000
    yield "itself", b"]q\0h\0a."
    yield "a line without end", b"S'" + b"a" * 2_000_000


@pytest.mark.parametrize("name", [name for name, _ in bombs()])
def test_bombs_take_at_most_a_multiple_of_their_size(tmp_path, name):
    content = dict(bombs())[name]
    (tmp_path / "a.bin").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match="must be a pickle of two sequences"):
        PairsBin(tmp_path / "a.bin")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6 + 10 * len(content)


def test_an_array_that_announces_more_than_it_holds(open_bytes):
    array = np.frombuffer(b"abcd", "u1").copy()
    content = pickle.dumps(([array, array], [True]), 2)
    assert content.count(b"K\x04\x85") == 1
    pairs = open_bytes(content.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"))
    with pytest.raises(
        BadImage, match=r"image 1: its array must have 2,147,483,647 bytes(.|\n)*Received: 4"
    ):
        pairs.images[1].read_bytes()
    with pytest.raises(ValueError, match="must be the uint8 bytes of an image file"):
        open_bytes(content.replace(b"K\x04\x85", b"L" + b"9" * 22 + b"L\n\x85"))
    truths = pickle.dumps(([b"", b""], np.array([True])), 2)
    with pytest.raises(ValueError, match="do not agree"):
        open_bytes(truths.replace(b"K\x01\x85", b"J\xff\xff\xff\x7f\x85"))


# Files that are not verification files


@pytest.mark.parametrize("protocol", range(6))
def test_a_file_cut_anywhere_is_refused(open_bytes, protocol):
    for form in ("bytes", "(n,)"):
        short = [each[:40] for each in IMAGES]
        content = pickle.dumps((list(map(IMAGE_FORMS[form], short)), [True, False]), protocol)
        for cut in range(len(content)):
            with pytest.raises(ValueError, match="must be a pickle of two sequences"):
                open_bytes(content[:cut])
        with pytest.raises(ValueError, match="1 bytes follow the end"):
            open_bytes(content + b"\n")


OTHERS = {
    "nothing": (b"", "it ends in the middle"),
    "text": (b"\x01hello", "the byte 0x01"),
    "jpeg": (b"\xff\xd8\xff\xe0", "the byte 0xff"),
    "protocol 9": (b"\x80\x09N.", "protocol 9"),
    "dict": (pickle.dumps({"a": 1}), "EMPTY_DICT"),
    "number": (pickle.dumps(5), "a int instead of two sequences"),
    "float": (pickle.dumps(5.0), "a float instead of two sequences"),
    "array of bytes": (
        pickle.dumps((np.array([b"a", b"bc"]), [True])),
        "an array of dtype 'S2' and 1 dimensions instead of images",
    ),
    "array of two dimensions": (
        pickle.dumps((np.array([[b"a", b"bc"]], object), [True])),
        "an array of dtype 'O8' and 2 dimensions instead of images",
    ),
    "truth 0.5": (pickle.dumps(([b"", b""], [0.5])), "truth 0 as 0.5, not true or false"),
    "truth NaN": (pickle.dumps(([b"", b""], [float("nan")])), "truth 0 as nan"),
    "text float": (b"(]F1.5.5\nl.", "a number must be there, not b'1.5.5'"),
    "three": (pickle.dumps(([], [], [])), "a tuple instead of two sequences"),
    "no lists": (pickle.dumps((b"", [])), "a string instead of images"),
    "no truths": (pickle.dumps(([b"", b""], b"x")), "a string instead of truths"),
    "unequal": (pickle.dumps(([b""] * 3, [True] * 2)), "3 images and 2 truths"),
    "none": (pickle.dumps(([], [])), "0 images and 0 truths"),
    "text images": (pickle.dumps((["a", "b"], [True])), "image 0 as a string, not as bytes"),
    "numbers": (pickle.dumps(([1, 2], [True])), "image 0 as a int, not as bytes"),
    "truth 2": (pickle.dumps(([b"", b""], [2])), "truth 0 as 2, not true or false"),
    "truth None": (pickle.dumps(([b"", b""], [None])), "truth 0 as nothing"),
    "truth text": (pickle.dumps(([b"", b""], ["yes"])), "truth 0 as a string"),
    "truth 7": (pickle.dumps(([b"", b""], np.array([7]))), "not all 0 or 1"),
    "truths 2-d": (pickle.dumps(([b"", b""], np.array([[True]]))), "not all 0 or 1"),
    "truths of two shapes": (
        pickle.dumps(([b""] * 4, [np.bool_(True), np.array([True])])),
        "truth 1 as a ndarray",
    ),
    "truths of many dimensions": (
        pickle.dumps(([b""] * 2, np.zeros((1,) * 30, bool))),
        "do not agree",
    ),
    "half a truth": (pickle.dumps(([b"", b""], np.array([0.5]))), "not all 0 or 1"),
    "pixels": (
        pickle.dumps(([np.zeros((112, 112, 3), "u1")] * 2, [True])),
        "3 dimensions. An image must be the uint8 bytes",
    ),
    "float images": (pickle.dumps(([np.zeros(5)] * 2, [True])), "dtype 'f8'"),
    "unfilled": (
        b"(]((cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btRh\0",
        "",
    ),
    "no mark": (b"t.", "no mark"),
    "empty stack": (b"a.", "the stack is empty"),
    "append to a number": (b"K\x01Na.", "not a list"),
    "recall": (b"h\x05.", "number 5 is recalled"),
    "bad digits": (b"Ix\n.", "a number must be there, not b'x'"),
    "no quotes": (b"Sabc\n.", "in quotes"),
    "two things": (b"NN.", "the end comes in the middle"),
    "long name": (b"c" + b"a" * 500 + b"\nb\n.", "too long"),
    "name is a number": (b"\x80\x04K\x01K\x02\x93.", "a short name is expected"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_pickles_are_refused(open_bytes, name):
    content, part = OTHERS[name]
    with pytest.raises(ValueError, match="must be a pickle of two sequences") as caught:
        open_bytes(content)
    assert part in str(caught.value)
    assert "write_pairs_bin" in str(caught.value)


def test_a_broken_escape_is_a_bad_image(open_bytes):
    pairs = open_bytes(b"((lS'\\xZZ'\naS''\na(lI01\nat.")
    with pytest.raises(BadImage, match="image 0: its bytes are coded as text, and the code"):
        pairs.images[0].read_bytes()


def test_bytes_that_are_not_an_image_are_named_when_they_are_read(open_bytes, tmp_path):
    pairs = open_bytes(pickle.dumps(([b"", noise(0)[:500]], [True])))
    with pytest.raises(BadImage, match=r"pairs\.bin, image 0: the file is empty"):
        read_face(pairs.images[0])
    with pytest.raises(BadImage, match=r"pairs\.bin, image 1: it does not decode"):
        read_face(pairs.images[1])
    (tmp_path / "pairs.bin").write_bytes(b"")
    with pytest.raises(BadImage, match="the file has become shorter"):
        pairs.images[1].read_bytes()


def test_every_instruction_is_known_or_refused():
    known = {name[1:] for name in dir(pairs_bin._Walk) if name[1:].isupper() or "_" in name[1:]}
    names = {each.name for each in pickletools.opcodes}
    for name in ("OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "PERSID", "BINPERSID", "DICT", "SETITEM"):
        assert name in names - known
