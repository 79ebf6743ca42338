"""Writes zoo/card.schema.json, the JSON schema of a card, from the fields of `Card`.

python tools/assets/write_card_schema.py
"""

import json

from keras_facemargin.zoo import DIRECTORY
from keras_facemargin.zoo.card_file import SCHEMA, schema


def schema_text():
    """The text of zoo/card.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    (DIRECTORY / SCHEMA).write_text(schema_text(), encoding="utf-8")
