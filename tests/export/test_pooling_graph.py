"""A template's pooling travels into a TFLite file."""

import keras
import numpy as np
import pytest

from keras_facemargin.pooling import QualityPooling, quality_pooling


@pytest.mark.parametrize("with_media", [False, True])
def test_a_template_of_fixed_length_converts_to_plain_tflite(with_media):
    tf = pytest.importorskip("tensorflow")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    features, quality = keras.Input((5, 8), batch_size=1), keras.Input((5,), batch_size=1)
    present = keras.Input((5,), batch_size=1, dtype="bool")
    media = keras.Input((5,), batch_size=1, dtype="int32") if with_media else None
    inputs = [features, quality, present, *([media] if with_media else [])]
    model = keras.Model(inputs, QualityPooling(0.6)(features, quality, present, media))
    graph = tf.function(
        lambda *tensors: {"template": model(tensors)},
        input_signature=[tf.TensorSpec(t.shape, t.dtype, f"in{i}") for i, t in enumerate(inputs)],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [graph.get_concrete_function()], model
    )
    interpreter = litert.Interpreter(model_content=converter.convert())  # no Flex ops
    run = interpreter.get_signature_runner()

    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(1, 5, 8)).astype("f"), rng.uniform(size=(1, 5)).astype("f")
    there, m = np.array([[True, True, False, True, True]]), np.array([[0, 0, 0, 1, 1]], "int32")
    q[0, 3], q[0, 4] = 0.0, 1.0
    arrays = [x, q, there, *([m] if with_media else [])]
    got = run(**{f"in{i}": array for i, array in enumerate(arrays)})["template"]
    expected = keras.ops.convert_to_numpy(
        quality_pooling(x, q, 0.6, present=there, media=m if with_media else None)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)
