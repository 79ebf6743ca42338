"""The prototypes' initializer, regularizer and constraint, as Keras layers have them."""

import keras
import numpy as np
import pytest
from cases import HEADS, make

from keras_facemargin import CosFace, MarginClassifier, SubCenterArcFace
from keras_facemargin.heads.margin_head import prototypes

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*should be at:UserWarning"),
]
CLASSES, DIM = 7, 5
ARGUMENTS = {
    "prototypes_initializer": keras.initializers.Constant(0.5),
    "prototypes_regularizer": keras.regularizers.L2(0.125),
    "prototypes_constraint": keras.constraints.UnitNorm(axis=-1),
}


def as_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def trained(head):
    """Loss of one epoch of `fit` on embeddings themselves, with a learning rate that moves."""
    images = keras.Input((1, 1, DIM))
    classifier = MarginClassifier(keras.Model(images, keras.layers.Flatten()(images)), head)
    rng = np.random.default_rng(0)
    head.prototypes.assign(rng.normal(size=head.prototypes_shape))
    classifier.compile(keras.optimizers.SGD(0.01))
    x, y = rng.normal(size=(6, 1, 1, DIM)).astype("float32"), np.arange(6)
    return classifier.fit(x, y, batch_size=6, verbose=0).history["loss"][0]


@pytest.mark.parametrize(
    ("head", "blockwise"),
    [
        (CosFace, True),
        (SubCenterArcFace, False),
        pytest.param(CosFace, False, marks=pytest.mark.slow),
        pytest.param(SubCenterArcFace, True, marks=pytest.mark.slow),
    ],
)
def test_training_uses_the_regularizer_and_the_constraint(head, blockwise):
    plain = head(CLASSES, blockwise=blockwise)
    loss = trained(plain)
    made = head(CLASSES, blockwise=blockwise, **ARGUMENTS)
    made.build((None, DIM))
    assert (as_numpy(made.prototypes) == 0.5).all()
    squares = np.square(np.random.default_rng(0).normal(size=made.prototypes_shape)).sum()
    assert trained(made) == pytest.approx(loss + 0.125 * squares, rel=1e-5)
    lengths = np.linalg.norm(as_numpy(made.prototypes), axis=-1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-4)
    assert np.abs(np.linalg.norm(as_numpy(plain.prototypes), axis=-1) - 1).max() > 0.1


@pytest.mark.parametrize("case", HEADS)
def test_every_head_takes_and_saves_the_arguments(case):
    config = make(case, **ARGUMENTS).get_config()
    again = type(make(case)).from_config(config)
    for name, expected in ARGUMENTS.items():
        assert getattr(again, name).get_config() == expected.get_config()
    by_name = make(case, prototypes_initializer="ones", prototypes_constraint="non_neg")
    assert isinstance(by_name.prototypes_initializer, keras.initializers.Ones)
    assert isinstance(by_name.prototypes_constraint, keras.constraints.NonNeg)


@pytest.mark.parametrize("case", ["CosFace", "SubCenterArcFace"])
def test_a_config_of_the_former_argument_name_loads(case):
    config = make(case, prototypes_initializer="ones").get_config()
    for name in ("prototypes_regularizer", "prototypes_constraint"):
        del config[name]
    config["initializer"] = config.pop("prototypes_initializer")
    again = type(make(case)).from_config(config)
    assert isinstance(again.prototypes_initializer, keras.initializers.Ones)
    assert "initializer" in config, "from_config does not change its argument"


@pytest.mark.parametrize("name", ["prototypes_regularizer", "prototypes_constraint"])
def test_sampled_or_padded_prototypes_are_refused(name, monkeypatch):
    with pytest.raises(ValueError, match=rf"all of them.*Received: {name}=\w+ with sample_rate"):
        CosFace(CLASSES, sample_rate=0.5, **{name: ARGUMENTS[name]})
    monkeypatch.setattr(prototypes, "shard_count", lambda: 4)
    with pytest.raises(ValueError, match=rf"padding.*Received: {name}=\w+ with num_classes=7 on 4"):
        CosFace(CLASSES, **{name: ARGUMENTS[name]}).build((None, DIM))
