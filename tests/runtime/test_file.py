"""Small files with each habit of layout, batch and numbers, run as they are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from keras_facemargin.images import Crop
from keras_facemargin.runtime import Carried, Pixels, open_file

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), "uint8")
MEANS = IMAGES.astype("float32").mean(axis=(1, 2))
LAYOUTS = {"NCHW": ([3, 8, 8], [2, 3]), "NHWC": ([8, 8, 3], [1, 2])}


def write_onnx(path, layout="NCHW", batch="b", kind=TensorProto.FLOAT, keep=0, entry=None):
    """A file from an image to the mean of each channel; `keep` keeps the sides, (B, D, 1, 1)."""
    sides, axes = LAYOUTS[layout]
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["out"], axes=axes, keepdims=keep),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", kind, [batch, *sides])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    if entry is not None:
        model.metadata_props.add(key="keras_facemargin", value=entry)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8])
@pytest.mark.parametrize("batch", ["b", 1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_batch_gives_a_row_for_each_image(tmp_path, layout, batch, kind):
    opened = open_file(write_onnx(tmp_path / "m.onnx", layout, batch, kind))
    assert opened.batch == (None if batch == "b" else batch)
    np.testing.assert_allclose(opened.embed(IMAGES, Pixels()), MEANS, rtol=1e-5)


def test_pixels_are_applied_before_the_file(tmp_path):
    opened = open_file(write_onnx(tmp_path / "m.onnx"))
    found = opened.embed(IMAGES, Pixels.of("BGR (x-127.5)/128"))
    np.testing.assert_allclose(found, (MEANS[:, ::-1] - 127.5) / 128, atol=1e-5)


def test_integers_without_a_scale_take_raw_pixels_only(tmp_path):
    opened = open_file(write_onnx(tmp_path / "m.onnx", kind=TensorProto.UINT8))
    with pytest.raises(ValueError, match=r"m\.onnx: .* takes raw pixels.*Received: uint8"):
        opened.embed(IMAGES, Pixels.of("minus1..1"))


def test_an_output_that_is_not_b_d_is_refused(tmp_path):
    opened = open_file(write_onnx(tmp_path / "m.onnx", keep=1))
    with pytest.raises(ValueError, match=r"\(B, D\), here B = 5\. Received: \(5, 3, 1, 1\)"):
        opened.embed(IMAGES, Pixels())


def test_a_crop_of_another_size_is_refused(tmp_path):
    opened = open_file(write_onnx(tmp_path / "m.onnx"))
    opened.check_crop(Crop(8, 8))
    with pytest.raises(ValueError, match=r"takes, 8x8 \(height x width\)\. Received: 112x112"):
        opened.check_crop(Crop(112, 112))


def test_a_file_carries_its_input(tmp_path):
    carried = Carried(Crop(8, 8, None), Pixels.of("BGR x/255"))
    assert open_file(write_onnx(tmp_path / "m.onnx")).carried is None
    opened = open_file(write_onnx(tmp_path / "m.onnx", entry=carried.to_json()))
    assert opened.carried == carried
    with pytest.raises(ValueError, match="must hold its crop and its pixels"):
        open_file(write_onnx(tmp_path / "m.onnx", entry='{"height": 8}'))


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite"])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"junk" * 100)
    with pytest.raises(ValueError, match=rf"{name}: the file cannot be opened\. Received: "):
        open_file(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_file(tmp_path / "missing.onnx")


def test_a_tflite_file_takes_two_images_at_a_time(tmp_path):
    import tensorflow as tf

    spec = tf.TensorSpec((2, 8, 8, 3), tf.float32)
    function = tf.function(lambda image: tf.reduce_mean(image, (1, 2)), input_signature=[spec])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    (tmp_path / "two.tflite").write_bytes(converter.convert())
    opened = open_file(tmp_path / "two.tflite")
    assert opened.batch == 2
    np.testing.assert_allclose(opened.embed(IMAGES, Pixels()), MEANS, rtol=1e-5)
