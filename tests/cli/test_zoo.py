"""`facemargin zoo`."""

import json

from one_sentence import assert_one_sentence

from keras_facemargin.cli.console import console
from keras_facemargin.cli.options import DEFAULT
from keras_facemargin.zoo import load_card


def test_zoo_lists_and_prints_cards(facemargin):
    console.width = 80  # the name is what one types: it must not be cut
    code, out, _ = facemargin("zoo")
    assert code == 0
    assert DEFAULT in out
    assert f"{load_card(DEFAULT).thresholds.find(mirrored=True).cosine:.3f}" in out
    code, out, _ = facemargin("zoo", DEFAULT)
    assert json.loads(out) == json.loads(json.dumps(load_card(DEFAULT).to_dict()))


def test_an_unknown_card(facemargin):
    assert_one_sentence(facemargin("zoo", "nosuch"), DEFAULT, "Received: 'nosuch'")
