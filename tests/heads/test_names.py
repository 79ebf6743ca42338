"""`heads.get` and `losses.get`: objects by name, config, class or themselves."""

import keras
import pytest

from keras_facemargin import heads, losses

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("name", ["CosFace", "cosface", "cos_face", "cos-face", "COSFACE"])
def test_a_head_by_name_in_any_spelling(name):
    head = heads.get(name, num_classes=30, margin=0.25)
    assert type(head) is heads.CosFace
    assert (head.num_classes, head.margin) == (30, 0.25)


@pytest.mark.parametrize("name", losses.list())
def test_every_loss_by_its_name(name):
    arguments = {"head": heads.SoftmaxHead(3)} if name == "CenterLoss" else {}
    assert type(losses.get(name.lower(), **arguments)) is getattr(losses, name)


def test_every_listed_head_is_a_class_of_that_name():
    assert len(heads.list()) == len(set(heads.list())) > 15
    for name in heads.list():
        assert getattr(heads, name).__name__ == name
    assert type(heads.get("crystal_loss", num_classes=9)) is heads.L2Softmax
    assert losses.get("triplet_hard_loss", soft=True).soft


def test_a_config_a_class_and_an_object():
    head = heads.CosFace(30, 0.25)
    for config in (
        keras.saving.serialize_keras_object(head),
        {"class_name": "cosface", "config": head.get_config()},
    ):
        again = heads.get(config)
        assert (type(again), again.margin) == (heads.CosFace, 0.25)
        assert heads.get(config, margin=0.1).margin == 0.1
    assert heads.get(heads.CosFace, num_classes=30).num_classes == 30
    assert heads.get(head) is head
    loss = losses.TripletHardLoss(0.3)
    assert losses.get(keras.saving.serialize_keras_object(loss)).margin == 0.3
    assert losses.get(loss) is loss


def test_a_head_of_a_user_is_found_by_its_registered_name():
    @keras.saving.register_keras_serializable("tests")
    class Mine(heads.MarginHead):
        pass

    config = keras.saving.serialize_keras_object(Mine(5, scale=2.0))
    assert type(heads.get(config)) is Mine


@pytest.mark.parametrize(
    ("get", "identifier", "hint"),
    [
        (heads.get, "CosFase", "Did you mean CosFace"),
        (heads.get, "sphereface3", "Did you mean SphereFace or SphereFaceR or SphereFace2?"),
        (heads.get, "zzz", "The names are AdaCos, AdaFace"),
        (heads.get, {"class_name": "Archface", "config": {}}, "Did you mean ArcFace"),
        (losses.get, "triplet_semi_hard", "Did you mean TripletSemiHardLoss"),
        (heads.get, 3, "given by its name"),
        (heads.get, keras.layers.Dense, "given by its name"),
        (heads.get, {"name": "CosFace"}, "given by its name"),
        (losses.get, None, "given by its name"),
    ],
)
def test_an_unknown_name_gives_the_nearest_names(get, identifier, hint):
    with pytest.raises(ValueError, match=hint.replace("?", r"\?")) as error:
        get(identifier)
    assert "Received: " in str(error.value)


def test_arguments_beside_an_object_are_refused():
    with pytest.raises(ValueError, match="without further arguments"):
        heads.get(heads.CosFace(30), margin=0.1)
