"""Figures of an evaluation in a card."""

from write_measured import with_results

from keras_facemargin import zoo

RESULTS = {
    "protocol": "lfw",
    "flip": False,
    "genuine_pairs": 3000,
    "impostor_pairs": 3000,
    "failed_to_enrol": 1,
    "auc": 0.999,
    "eer": 0.01,
    "accuracy": 0.99,
    "standard_error": 0.001,
    "intervals": {"accuracy": [0.985, 0.994], "eer": [0.0, 0.02], "resampled": "identities"},
    "tar_at_far": [{"target": 0.1, "tar": 0.998}, {"target": 1e-3, "tar": None}],
}


def test_figures_replace_older_ones_of_the_same_kind():
    card = zoo.load_card("spherenet_distilled")
    once = with_results(card, RESULTS, "a note")
    twice = with_results(once, RESULTS | {"accuracy": 0.98}, "a note")
    assert [one.mirrored for one in twice.measured] == [True, False]
    found = twice.find_measured("lfw", mirrored=False)
    assert (found.accuracy, found.pairs, found.tar_at_far) == (0.98, 6000, {"1e-1": 0.998})
    assert "--no-flip --model spherenet_distilled" in found.command
    assert {"keras_facemargin", "keras", "numpy"} < set(found.versions)
    assert found.interval == (0.985, 0.994)
    assert twice.find_measured("lfw") == card.measured[0]
    again = with_results(card, RESULTS | {"flip": True}, "a note")
    assert [one.mirrored for one in again.measured] == [True, False]


def test_an_interval_over_pairs_is_not_one_over_people():
    over_pairs = RESULTS | {"intervals": {"accuracy": [0.985, 0.994], "resampled": "pairs"}}
    card = with_results(zoo.load_card("spherenet_distilled"), over_pairs, "")
    assert card.find_measured("lfw", mirrored=False).interval is None
