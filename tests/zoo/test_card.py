"""Cards: the real ones are complete, and a broken one is refused in one sentence."""

import codecs
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from inference import infer
from small_zoo import CARD, change_card, tiny_card

from keras_facemargin import zoo
from keras_facemargin.zoo.card_file import schema
from keras_facemargin.zoo.parts import LicenseEntry

CHECKOUT = Path(__file__).resolve().parents[2]
MOST_BYTES = 4_500_000
EMBEDDERS = zoo.list_embedders()
IN_PACKAGE = [
    name for name in EMBEDDERS if "folder" in {s.kind for s in zoo.load_card(name).sources}
]
pytestmark = pytest.mark.any_backend


# Every embedder in the zoo.


def test_the_default_embedder_is_listed():
    assert "spherenet_distilled" in EMBEDDERS


@pytest.mark.parametrize("name", IN_PACKAGE)
def test_the_card_describes_the_weights(name):
    card = zoo.load_card(name)
    embedder = zoo.load_embedder(name)
    size = (zoo.catalogue.DIRECTORY / name / card.weights.file).stat().st_size
    assert size == card.weights.bytes <= MOST_BYTES
    assert embedder.count_params() == card.parameters
    assert embedder.input_shape == (None, *card.crop.shape, 3)
    assert embedder.output_shape == (None, card.embedding_dim)
    assert {weight.dtype for weight in embedder.weights} == {"float32"}
    assert size < 6 * card.parameters  # float32 weights and no optimizer's state
    images = np.random.default_rng(0).uniform(0, 255, (2, *card.crop.shape, 3)).astype("float32")
    images[1] = 255 * (images[1] > 200)
    one, other = infer(embedder, images)
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert np.isfinite(cosine)
    assert cosine < 0.999


@pytest.mark.parametrize("name", EMBEDDERS)
def test_every_card_is_complete(name):
    """Facts that the form alone does not ask for."""
    text = (zoo.catalogue.DIRECTORY / name / "card.json").read_text(encoding="utf-8")
    card = zoo.load_card(name)
    assert json.loads(json.dumps(card.to_dict())) == json.loads(text)
    assert card.license and card.caution
    if card.input.crop.template is not None:
        assert np.allclose(card.crop.points, card.input.crop.points, atol=1e-4)
    for kind in ("single", "mirrored") if card.thresholds else ():
        for chosen in getattr(card.thresholds, kind):
            assert chosen.impostor_pairs * chosen.far >= 1  # else it would be a guess
    if card.training is not None and card.training.tool is not None:
        assert (CHECKOUT / card.training.tool).is_file()
    for one in card.measured:
        assert one.protocol != "lfw" or one.pairs == 6000
    assert (card.converter is None) == (card.weights.file.endswith(".keras"))


def test_the_docs_state_the_numbers_of_the_cards():
    default, other, third = map(
        zoo.load_card, ("spherenet_distilled", "mobilefacenet_foamliu", "mobilefacenet_192")
    )
    threshold = default.thresholds.find(mirrored=True)
    for page, words in (
        ("recognize", f"threshold {threshold.cosine:.4f}"),
        ("recognize", f"on {threshold.impostor_pairs:,} impostor pairs ({threshold.data})"),
        ("quality", f"the card's, of CelebA people, is {threshold.cosine:.4f}"),
        ("evaluation", f"`spherenet_distilled`, accuracy | {row(default)}"),
        ("evaluation", f"foamliu's MobileFaceNet, accuracy | {row(other)}"),
        ("robustify", f"`{third.name}` {100 * third.find_measured('lfw').accuracy:.2f} →"),
    ):
        text = (CHECKOUT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        assert words in " ".join(text.split()), (page, words)


def row(card):
    one = card.find_measured("lfw")
    low, high = one.interval
    return f"{one.accuracy:.2%} ± {one.standard_error:.2%} | {low:.2%} to {high:.2%}"


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        ("write_zoo_readme", "zoo_readme", "zoo/README.md"),
        ("write_zoo_readme", "readme", "README.md"),
        ("write_card_schema", "schema_text", "zoo/card.schema.json"),
    ],
)
def test_generated_files_are_current(module, function, name):
    path = CHECKOUT / "tools" / "assets" / f"{module}.py"
    spec = importlib.util.spec_from_file_location(module, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    written = (CHECKOUT / name).read_text(encoding="utf-8")
    assert written == getattr(loaded, function)(), f"run: python tools/assets/{module}.py"


def test_the_schema_asks_for_every_field_and_no_other():
    found = schema()
    optional = {"quality", "likelihood", "groups"}  # older cards without these fields still open
    assert set(found["required"]) | optional == set(found["properties"]) == set(CARD.to_dict())
    assert found["additionalProperties"] is False


# Cards that break the form.


def first(card, kind):
    return card["thresholds"][kind][0]


def lfw(card):
    return card["measured"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(colour="red"), r"field `colour` is unknown. Received: 'red'. card.sch"),
        (lambda c: c.pop("caution"), r"field `caution` is missing. Received: schema_version, name"),
        (lambda c: first(c, "single").pop("far"), r"`thresholds.single\[0\].far` is missing"),
        (lambda c: c.update(thresholds=[]), r"`thresholds` must be an object. Received: \[\]"),
        (lambda c: lfw(c).update(x=1), r"field `measured\[0\].x` is unknown"),
        (lambda c: c.update(embedding_dim="128"), r"`embedding_dim` must be a whole number"),
        (lambda c: c.update(embedding_dim=True), r"`embedding_dim` must be a whole number"),
        (lambda c: c.update(embedding_dim=2.5), r"`embedding_dim` must be a whole number"),
        (lambda c: c.update(lineage="a teacher"), r"`lineage` must be a list"),
        (lambda c: c.update(lineage=[1]), r"`lineage\[0\]` must be text. Received: 1"),
        (lambda c: c.update(measured={}), r"`measured` must be a list"),
        (lambda c: c.update(input=None), r"`input` must be an object. Received: None"),
        (lambda c: c["license"][0].update(commercial=0), r"\[0\].commercial` must be true"),
        (
            lambda c: c["license"][0].update(part="car"),
            r"`license\[0\].part` must be 'weights'",
        ),
        (lambda c: first(c, "single").update(cosine=1.5), r"cosine` must be 1.* or less.*: 1.5"),
        (lambda c: first(c, "mirrored").update(far=0), r"mirrored\[0\].far` must be more than 0"),
        (lambda c: first(c, "mirrored").update(tar=7.0), r"\[0\].tar` must be 1.* or less"),
        (lambda c: first(c, "single").update(impostor_pairs=-1), r"pairs` must be 0 or more"),
        (
            lambda c: c["thresholds"].update(single=[]),
            r"`thresholds.single` must be a list",
        ),
        (lambda c: lfw(c).update(accuracy=95.2), r"measured\[0\].accuracy` must be 1.* or less"),
        (lambda c: lfw(c).update(eer=-0.1), r"measured\[0\].eer` must be 0.* or more"),
        (lambda c: lfw(c)["tar_at_far"].update(x=2), r"measured\[0\].tar_at_far.x` must be 1"),
        (lambda c: lfw(c).update(auc=float("nan")), r"finite.*Received: NaN"),
        (lambda c: lfw(c).update(auc=10**400), r"measured\[0\].auc` must be a finite number"),
        (lambda c: c.update(parameters=0), r"`parameters` must be 1 or more"),
        (lambda c: c["training"].update(steps=-1), r"`training.steps` must be 0 or more"),
        (lambda c: c["weights"].update(bytes=0), r"`weights.bytes` must be 1 or more"),
        (lambda c: c["weights"].update(sha256="ABC"), r"`weights.sha256` must be 64 hex digits"),
        (lambda c: c["weights"].update(file="../x.keras"), r"`weights.file` must be a file name"),
        (
            lambda c: c["weights"].update(sha256="0" * 64),
            r"`embedding_id` must be [0-9a-f]{64}, as",
        ),
        (
            lambda c: c.update(network={"kind": "net"}),
            r"`network.kind` must be one of 'keras'",
        ),
        (lambda c: c.update(network={}), r"`network.kind` is missing"),
        (
            lambda c: c.update(
                network={
                    "kind": "backbone",
                    "backbone": "SphereNet",
                    "arguments": {},
                    "neck": "gdc",
                    "embedding_dim": 3,
                }
            ),
            r"`network.embedding_dim` must be `embedding_dim`, 2. Received: 3",
        ),
        (lambda c: c.update(sources=[]), r"`sources` must be a list of 1 or more"),
        (
            lambda c: c.update(sources=[{"kind": "https", "url": "http://x", "archive": None}]),
            r"`sources\[0\].url` must be text like",
        ),
        (
            lambda c: c.update(
                sources=[{"kind": "hf", "repository": "a/b", "revision": "c", "path": "../d"}]
            ),
            r"`sources\[0\].path` must be a relative path",
        ),
        (
            lambda c: c.update(golden={"crop": "a", "runtime": "b", "embedding": [1.0]}),
            r"`golden.embedding` must be a list of 2 numbers. Received: '?1 numbers",
        ),
        (lambda c: c.update(name="other"), r"`name` must be the folder's name, 'tiny'"),
        (lambda c: c.update(schema_version=3), r"must have `schema_version` 2. Received: 3"),
        (
            lambda c: (c.pop("schema_version"), c.update(licence={})),
            r"card of version 1, which has none. Remove the card; `facemargin calibrate",
        ),
    ],
)
def test_a_broken_card_is_refused_by_field(little_zoo, change, message):
    change_card(little_zoo, change)
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load_card("tiny")
    text = str(caught.value)
    assert text.startswith(f"{little_zoo / 'card.json'}: ")
    assert "\n" not in text and len(text) < 1_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"name": 1e999}', "field `schema_version` is missing"),
        ("1e999", "a card must be an object. Received: inf"),
        ("-Infinity", "must be finite. Received: -Infinity"),
        ("x".encode("utf-16"), "a card in UTF-8. Received: a file in UTF-16"),
        (b"{\xff}", "line 1: must be a card in UTF-8"),
        ("", "Expecting value"),
        ("{", r"card\.json: "),
        ('{"schema_version": 2, "name": "\\ud800"}', "a card must be JSON"),
    ],
    ids=range(10),
)
def test_a_file_that_is_not_a_card_is_refused_in_one_sentence(little_zoo, text, message):
    path = little_zoo / "card.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load_card("tiny")
    assert str(caught.value).count(str(path)) == 1
    assert len(str(caught.value)) < 1_000


def test_damaged_cards_are_refused_in_one_sentence(tmp_path):
    """400 mutations: bytes changed, removed, added or repeated."""
    rng = np.random.default_rng(0)
    source = (zoo.catalogue.DIRECTORY / "w600k_mbf" / "card.json").read_bytes()
    path, refused = tmp_path / "card.json", 0
    for _ in range(400):
        data = bytearray(source)
        for _ in range(rng.integers(1, 6)):
            place, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
            end = place if rng.random() < 0.3 else place + length
            data[place:end] = bytes(rng.choice(bytearray(b'{}[]",:0-elnu\xff'), length // 8))
        path.write_bytes(data)
        try:
            zoo.read_card(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path))
            assert "\n" not in str(error) and len(str(error)) < 1_500
    assert refused > 300


def test_an_integer_is_accepted_as_a_number(little_zoo):
    change_card(little_zoo, lambda card: first(card, "single").update(cosine=1))
    assert zoo.load_card("tiny").thresholds.single[0].cosine == 1.0


def test_an_infinite_number_is_refused_by_field(little_zoo):
    path = little_zoo / "card.json"
    path.write_text(re.sub(r'"auc": [0-9.]+', '"auc": 1e999', path.read_text()))
    with pytest.raises(ValueError, match=r"`measured\[0\]\.auc` must be a finite number.*: inf"):
        zoo.load_card("tiny")


def test_a_card_may_begin_with_a_byte_order_mark(little_zoo):
    path = little_zoo / "card.json"
    card = zoo.load_card("tiny")
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert zoo.load_card("tiny") == card


def test_facts_without_a_record_are_null(little_zoo):
    change_card(little_zoo, lambda card: card.update(training=None, thresholds=None))
    card = zoo.load_card("tiny")
    assert card.training is None and card.thresholds is None
    assert zoo.load_embedder("tiny").output_shape == (None, 2)


def test_a_written_card_is_read_again(little_zoo):
    path = little_zoo / "card.json"
    card = zoo.read_card(path).changed(description="größer")
    zoo.write_card(path, card)
    assert zoo.read_card(path) == zoo.load_card("tiny") == card
    assert sorted(each.name for each in little_zoo.iterdir()) == ["card.json", "net.keras"]


# What a card computes.


def test_the_embedding_id_depends_on_all_that_decides_comparability(little_zoo):
    card = zoo.load_card("tiny")
    crop = card.input.crop.model_copy(update={"height": 9})
    others = [
        card.changed(weights=card.weights.model_copy(update={"sha256": "0" * 64})),
        card.changed(input=card.input.model_copy(update={"channel_order": "BGR"})),
        card.changed(input=card.input.model_copy(update={"crop": crop})),
        card.changed(embedding_dim=3),
    ]
    ids = [card.id_of(), card.id_of(mirrored=True), *(other.embedding_id for other in others)]
    assert len(set(ids)) == 6
    assert card.changed(name="other", description="x").embedding_id == card.embedding_id
    unknown = card.changed(weights=card.weights.model_copy(update={"sha256": None}))
    assert unknown.embedding_id is None


def entry(part, commercial, of="it", words="MIT"):
    return LicenseEntry(part=part, of=of, license=words, stated_by="x", commercial=commercial)


def test_commercial_use_is_computed_from_the_ledger():
    cleared = tuple(entry(part, True) for part in ("weights", "code", "data"))
    card = CARD.changed(license=cleared)
    assert card.commercial_use and card.commercial_obstacles == ()
    assert not CARD.changed(license=cleared[:2]).commercial_use
    assert CARD.changed(license=cleared[:2]).commercial_obstacles == (
        "The ledger has no statement about the data.",
    )
    assert not CARD.changed(license=(*cleared, entry("data", None, "more"))).commercial_use
    taught = CARD.changed(license=(*cleared, entry("teacher", False, words="research only")))
    assert taught.commercial_obstacles == ("teacher (it): research only [x].",)
    assert CARD.changed(license=()).commercial_use is False


def test_statements_that_contradict_each_other_are_shown():
    ledger = tuple(entry(part, True) for part in ("weights", "code", "data"))
    card = CARD.changed(license=(*ledger, entry("weights", False, words="research only")))
    assert card.license_conflicts == (
        "Statements about the weights (it) conflict: MIT [x] / research only [x].",
    )
    assert card.license_conflicts[0] in card.commercial_obstacles
    assert CARD.changed(license=(*ledger, entry("weights", None))).license_conflicts == ()


def test_the_threshold_of_the_nearest_rate_is_found():
    general = CARD.thresholds.find(mirrored=True)
    rare = general.model_copy(update={"far": 1e-5, "cosine": 0.6})
    group = general.model_copy(update={"far": 1e-5, "cosine": 0.7, "group": "a group"})
    found = CARD.thresholds.model_copy(update={"mirrored": (general, rare, group)})
    assert found.find(mirrored=True) == general
    assert found.find(mirrored=True, far=2e-5) == rare
    assert found.find(mirrored=True, far=0.1) == general


def test_the_crop_of_a_card_is_that_of_images(little_zoo):
    assert CARD.crop.shape == (112, 112)
    assert CARD.crop.points.tolist() == [list(point) for point in CARD.input.crop.points]
    assert tiny_card(little_zoo / "net.keras").crop.template is None


@pytest.mark.parametrize("name", EMBEDDERS)
def test_every_converter_exists(name):
    from keras_facemargin.zoo.convert import CONVERTERS

    converter = zoo.load_card(name).converter
    assert converter is None or converter in CONVERTERS


def test_groups_on_a_card_agree_with_their_counts():
    for name in ("spherenet_distilled", "mobilefacenet_192", "mobilefacenet_foamliu_onnx"):
        groups = zoo.load_card(name).groups
        rates = [one.fmr for one in groups.groups if one.impostor_pairs]
        assert groups.ratio == pytest.approx(max(rates) / min(rates))
        for one in groups.groups:
            for rate, ends in ((one.fmr, one.fmr_interval), (one.fnmr, one.fnmr_interval)):
                assert (rate is None) == (ends is None)
                assert rate is None or ends[0] <= rate <= ends[1]
        own = [one.own_cosine for one in groups.groups if one.own_cosine is not None]
        assert groups.held_cosine == max(own) > groups.single_cosine
        assert groups.single_tar > groups.held_tar
        lowest_is_zero = groups.model_copy(update={"ratio": None})
        assert "the lowest is 0" in lowest_is_zero.sentences[1]
