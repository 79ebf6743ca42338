"""The metadata of float files: read with a plain flatbuffers reader, opened by MediaPipe."""

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import number_types as numbers

from keras_facemargin.export import export_tflite
from keras_facemargin.export.metadata import with_metadata

ALIGNMENT = 16  # `force_align` of a buffer in the schema
FLOAT = ("float32", "float16", "dynamic_int8")


@pytest.fixture(scope="module")
def files(exported):
    """The bytes of every precision, by name."""
    return {name: Path(verdict.path).read_bytes() for name, verdict in exported.items()}


def entry(artefact):
    """The bytes that a TFLite file holds as TFLITE_METADATA; None if it has none."""
    model = schema.ModelT.InitFromPackedBuf(artefact)
    found = [each.buffer for each in model.metadata or [] if each.name == b"TFLITE_METADATA"]
    assert len(found) <= 1
    return bytes(model.buffers[found[0]].data) if found else None


class Table:
    """A table of a flatbuffer, read by the slots of the schema."""

    def __init__(self, data, position):
        self.data, self.table = data, flatbuffers.table.Table(data, position)

    def _field(self, slot):
        offset = self.table.Offset(4 + 2 * slot)
        assert offset, f"slot {slot} is empty"
        return offset + self.table.Pos

    def byte(self, slot):
        return self.table.Get(numbers.Uint8Flags, self._field(slot))

    def text(self, slot):
        return self.table.String(self._field(slot)).decode()

    def child(self, slot):
        return Table(self.data, self.table.Indirect(self._field(slot)))

    def children(self, slot):
        start, count = self._vector(slot)
        return [Table(self.data, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def floats(self, slot):
        start, count = self._vector(slot)
        return [self.table.Get(numbers.Float32Flags, start + 4 * i) for i in range(count)]

    def _vector(self, slot):
        offset = self.table.Offset(4 + 2 * slot)
        return self.table.Vector(offset), self.table.VectorLen(offset)


def root(data):
    position = flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)
    return Table(bytearray(data), position)


@pytest.mark.parametrize("precision", FLOAT)
def test_pixels_reach_the_graph_as_they_are(files, precision):
    """metadata_schema.fbs: the slots are its fields in order, the numbers members of its unions."""
    data = entry(files[precision])
    assert data[4:8] == b"M001"
    model = root(data)
    assert model.text(7) == "1.0.0"
    (graph,) = model.children(3)
    (image,), (embedding,) = graph.children(2), graph.children(3)
    assert (image.text(0), embedding.text(0)) == ("image", "embedding")
    assert image.child(3).byte(0) == 2  # ImageProperties
    assert image.child(3).child(1).byte(0) == 1  # RGB
    (unit,) = image.children(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    assert unit.child(1).floats(0) == [0.0, 0.0, 0.0]
    assert unit.child(1).floats(1) == [1.0, 1.0, 1.0]
    assert embedding.child(3).byte(0) == 1  # FeatureProperties


def test_bytes_need_no_metadata(files):
    assert entry(files["int8"]) is None


def test_metadata_changes_neither_tensors_nor_results(files, faces):
    file = files["float32"]
    again = with_metadata(file, "again")  # a file with one entry more
    models = [schema.ModelT.InitFromPackedBuf(each) for each in (file, again)]
    for one, other in zip(*(model.buffers for model in models), strict=False):
        np.testing.assert_array_equal(one.data, other.data)
    runs = []
    for each in (file, again):
        run = Interpreter(model_content=each).get_signature_runner()
        runs.append(run(image=faces[:1].astype("float32"))["embedding"].copy())
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_second_export_gives_the_same_bytes(embedder, faces, files, tmp_path, precision):
    path = tmp_path / "face.tflite"
    export_tflite(embedder, path, precision=precision, images=faces)
    assert path.read_bytes() == files[precision]


@pytest.mark.parametrize("precision", [*FLOAT, "int8"])
def test_mediapipe_gives_the_same_embedding(files, faces, precision):
    mediapipe = pytest.importorskip("mediapipe")
    tasks = mediapipe.tasks
    options = tasks.vision.ImageEmbedderOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=files[precision])
    )
    run = Interpreter(model_content=files[precision]).get_signature_runner()
    (details,) = run.get_input_details().values()
    with tasks.vision.ImageEmbedder.create_from_options(options) as embed:
        for face in faces[::32]:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=face)
            received = np.asarray(embed.embed(image).embeddings[0].embedding)
            expected = run(image=face[None].astype(details["dtype"]))["embedding"][0]
            cosine = received @ expected / np.linalg.norm(received) / np.linalg.norm(expected)
            assert cosine > 0.9999


def raw(artefact):
    """The model of the generated reader, which knows where each vector lies."""
    return schema.Model.GetRootAs(artefact)


def place_of_zero_points(tensor):
    table = tensor.Quantization()._tab
    return table.Vector(table.Offset(10)) if table.Offset(10) else None


@pytest.mark.parametrize("precision", ["int8", "dynamic_int8", "float32"])
def test_buffers_are_aligned(files, precision):
    model = raw(files[precision])
    places = [
        model.Buffers(n)._tab.Vector(model.Buffers(n)._tab.Offset(4))
        for n in range(model.BuffersLength())
        if model.Buffers(n).DataLength()
    ]
    assert places and all(place % ALIGNMENT == 0 for place in places)


def test_zero_points_of_channels_are_written_once(files):
    graph = raw(files["int8"]).Subgraphs(0)
    tensors = [graph.Tensors(number) for number in range(graph.TensorsLength())]
    places = {}
    for tensor in tensors:
        count = tensor.Quantization().ZeroPointLength() if tensor.Quantization() else 0
        if count > 1:
            assert not tensor.Quantization().ZeroPointAsNumpy().any()
            places.setdefault(count, []).append(place_of_zero_points(tensor))
    assert sum(map(len, places.values())) > len(places)
    assert all(len(set(each)) == 1 for each in places.values())


def test_a_repacked_file_computes_the_same(files):
    """Entries are added to a finished file, whose tensors stay as they are."""
    before = files["int8"]
    after = with_metadata(before, "again")
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    results = []
    for content in (before, after):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        rows = []
        for image in images:
            interpreter.set_tensor(given["index"], image[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(made["index"]).copy())
        results.append(np.concatenate(rows))
    np.testing.assert_array_equal(*results)
