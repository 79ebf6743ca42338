"""A card and a tiny embedder that it describes, for tests."""

import json

import keras

from keras_facemargin import zoo

CARD = zoo.load_card("spherenet_distilled")


def save_tiny(file, size=8):
    """A .keras file of an embedder with 6 parameters, (B, size, size, 3) -> (B, 2)."""
    image = keras.Input((size, size, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(2, use_bias=False)(pooled)).save(file)


def tiny_card(file, **fields):
    """The card of such a file."""
    record = CARD.to_dict()["input"]
    record["crop"] |= {"height": 8, "width": 8, "template": None, "points": None}
    facts = {
        "name": "tiny",
        "parameters": 6,
        "embedding_dim": 2,
        "golden": None,
        "input": zoo.Input.model_validate_json(json.dumps(record)),
        "weights": zoo.Weights(
            file=file.name, bytes=file.stat().st_size, sha256=zoo.digest_of(file)
        ),
    }
    return CARD.changed(**(facts | fields))


def change_card(folder, change):
    """Changes the JSON of a folder's card."""
    path = folder / "card.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
