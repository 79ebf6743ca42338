"""TFLite metadata, which MediaPipe needs for a file with float input.

MediaPipe's ImageEmbedder refuses a float input without `NormalizationOptions`. The exported graph
takes RGB 0..255, so mean and standard deviation are 0 and 1. The tables are those of
`metadata_schema.fbs`, written with only `flatbuffers`: the packages that contain the generated
writers cannot be installed beside TensorFlow.
"""

from typing import Any

import numpy as np

from keras_facemargin.export.graph import INPUT_NAME, OUTPUT_NAME

_NAME = "TFLITE_METADATA"  # the entry of a TFLite file that holds the buffer
_IDENTIFIER = b"M001"
_Field = tuple[str, Any]  # method of the builder, and its value
_BYTE, _OFFSET = "PrependUint8Slot", "PrependUOffsetTRelativeSlot"
# Members of unions and enums of the schema.
_FEATURES, _IMAGE, _RGB, _NORMALIZATION = 1, 2, 1, 1


def with_metadata(artefact: bytes, name: str) -> bytes:
    """Adds the metadata to a TFLite file.

    Args:
        artefact: bytes of a file with one image input and one embedding output.
        name: of the model.

    Returns:
        The bytes of the file with metadata; tensors and operators are unchanged.
    """
    return with_entry(artefact, _NAME, _metadata(name))


def with_entry(artefact: bytes, name: str, content: bytes) -> bytes:
    """Adds a named entry to the metadata of a TFLite file.

    Args:
        artefact: bytes of the file.
        name: of the entry.
        content: its bytes.

    Returns:
        The bytes of the file with the entry; tensors and operators are unchanged.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(artefact)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return _packed(model, len(artefact))


def _packed(model: Any, size: int) -> bytes:
    """The bytes of a `ModelT`: equal vectors once, buffers at multiples of 16 as the schema asks.

    Each channel of int8 weights has a scale of four bytes and a zero point of eight, which is 0. In
    a MobileFaceNet these are two fifths of the file.
    """
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]  # flatbuffers has no types
        def __init__(self) -> None:
            super().__init__(size + 4096)
            self.places: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: Any) -> int:  # the name of flatbuffers
            if x.dtype == np.uint8:
                return int(super().CreateNumpyVector(x))
            key = x.dtype.str, x.tobytes()
            if key not in self.places:
                self.places[key] = super().CreateNumpyVector(x)
            return self.places[key]

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
            return int(super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment))

    builder = Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _metadata(name: str) -> bytes:
    """A `ModelMetadata` buffer: one RGB image 0..255 in, one embedding out."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)

    def text(value: str) -> _Field:
        return _OFFSET, builder.CreateString(value)

    def table(fields: dict[int, _Field]) -> _Field:
        builder.StartObject(max(fields) + 1)
        for slot, (prepend, value) in fields.items():
            getattr(builder, prepend)(slot, value, 0)
        return _OFFSET, builder.EndObject()

    def tables(entry: _Field) -> _Field:
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(entry[1])
        return _OFFSET, builder.EndVector()

    def numbers(value: float) -> _Field:
        return _OFFSET, builder.CreateNumpyVector(np.full(3, value, "<f4"))

    normalization = table({0: numbers(0.0), 1: numbers(1.0)})  # mean, std
    image = table(
        {
            0: text(INPUT_NAME),
            1: text("Aligned face crop, RGB 0..255."),
            3: table({0: (_BYTE, _IMAGE), 1: table({0: (_BYTE, _RGB)})}),  # content
            4: tables(table({0: (_BYTE, _NORMALIZATION), 1: normalization})),  # process units
        }
    )
    embedding = table(
        {
            0: text(OUTPUT_NAME),
            1: text("L2-normalised face embedding."),
            3: table({0: (_BYTE, _FEATURES), 1: table({0: (_BYTE, 0)})}),
        }
    )
    graph = table({2: tables(image), 3: tables(embedding)})
    model = table(
        {
            0: text(name),
            1: text("Face embedder written by keras_facemargin."),
            3: tables(graph),
            7: text("1.0.0"),  # the least version of a reader
        }
    )
    builder.Finish(model[1], file_identifier=_IDENTIFIER)
    return bytes(builder.Output())
