"""Galleries: enrolment, search, and what happens to the file."""

import errno
import os
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from processes import finish, start

from keras_facemargin.gallery import Gallery, expected_fpir
from keras_facemargin.images import Crop
from keras_facemargin.quality import Quality, decide

DIM = 8
ID, OTHER_ID = "f" * 64, "e" * 64


def open_gallery(path="people.gallery", **options):
    return Gallery(path, **{"embedding_id": ID, "embedding_dim": DIM, **options})


def drawn(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIM), np.float32)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gallery():
    with open_gallery() as opened:
        yield opened


def test_enrol_list_remove(gallery):
    crops = [np.full((112, 112, 3), 128, "uint8"), None]
    qualities = [Quality(0.5, 20.0), None]
    assert gallery.enrol("bob", drawn(1)) == [1]
    ids = gallery.enrol("ann", drawn(2), crops=crops, qualities=qualities, sources=["a.jpg", None])
    assert (ids, len(gallery), gallery.num_images) == ([2, 3], 2, 3)
    ann, bob = gallery.people()
    assert (ann.name, ann.images, ann.crops, ann.sharpness) == ("ann", 2, 1, 20.0)
    assert (bob.name, bob.images, bob.crops, bob.sharpness) == ("bob", 1, 0, None)
    first, second = gallery.images("ann")
    assert (first.id, first.source, first.utility, first.has_crop) == (2, "a.jpg", 0.5, True)
    assert (second.source, second.sharpness, second.has_crop) == (None, None, False)
    assert gallery.kept_crop(2).startswith(b"\xff\xd8")
    with pytest.raises(ValueError, match="keeps no crop"):
        gallery.kept_crop(3)
    assert gallery.remove_image(2) == "ann"
    assert gallery.remove_image(3) == "ann"  # with the last image the person
    assert [each.name for each in gallery.people()] == ["bob"]
    assert gallery.remove_person("bob") == 1
    assert (len(gallery), gallery.num_images) == (0, 0)
    assert gallery.enrol("bob", drawn(1)) == [4]  # a number is used once


def test_one_photo_under_two_names_is_found(gallery):
    photos = drawn(5)
    (ann, *_) = gallery.enrol("ann", photos[:3])
    near = photos[0] + 0.02 * np.linalg.norm(photos[0]) * np.eye(DIM, dtype="float32")[0]
    own, copy, other = gallery.enrol("bob", [photos[3], 2 * near, photos[4]])
    assert gallery.under_two_names([own, other]) == gallery.under_two_names([]) == []
    ((one, found, cosine),) = gallery.under_two_names([own, copy, other])
    assert (one.id, one.person, found.id, found.person) == (copy, "bob", ann, "ann")
    expected = float(near @ photos[0] / np.linalg.norm(near) / np.linalg.norm(photos[0]))
    assert cosine == pytest.approx(expected, abs=1e-6)
    assert gallery.under_two_names([copy], cosine=expected + 1e-4) == []
    # Images of one person do not hide the other's, and a pair is listed once.
    gallery.enrol("bob", [photos[0]] * 4)
    assert {each[1].person for each in gallery.under_two_names([copy])} == {"ann"}
    assert len(gallery.under_two_names([copy, ann])) == 2
    assert len(gallery.under_two_names([own, 1, 7])) == 1
    with pytest.raises(ValueError, match="no image of that number"):
        gallery.under_two_names([own, 99])


def test_a_removed_person_is_not_in_the_file():
    rows = drawn(40)
    with open_gallery() as gallery:
        gallery.enrol("ann", rows[:20])
        gallery.enrol("bob", rows[20:])
        gallery.remove_person("ann")
    content = Path("people.gallery").read_bytes()
    assert not any(row.tobytes() in content for row in rows[:20])
    assert all(row.tobytes() in content for row in rows[20:])


def template_of(rows, sharpness):
    """The template of one person by plain loops."""
    logits = []
    for value in sharpness:
        d = 0.5 if None in sharpness else min(max(value / 35.0, 0.02), 0.98)
        logits.append(min(0.5 * np.log(d / (1 - d)), 7))
    total = np.zeros(DIM)
    for row, logit in zip(rows, logits, strict=True):
        total += np.exp(0.3 * logit) * row.astype(float)
    return total / np.sqrt(sum(total**2))


def test_search_is_by_the_templates_of_quality_pooling(gallery):
    rng = np.random.default_rng(1)
    templates = {}
    for number in range(30):
        rows = drawn(rng.integers(1, 5), seed=number)
        sharpness = rng.uniform(0, 40, len(rows)).tolist()
        if number % 3 == 0:
            sharpness[0] = None
        gallery.enrol(
            f"p{number}",
            rows,
            qualities=[None if s is None else Quality(None, s) for s in sharpness],
        )
        templates[f"p{number}"] = template_of(rows, sharpness)
    probes = drawn(7, seed=99)
    names, scores = gallery.search(probes, count=3)
    for probe, found, cosines in zip(probes, names, scores, strict=True):
        unit = probe / np.linalg.norm(probe)
        expected = sorted(((template @ unit, name) for name, template in templates.items()))[::-1]
        assert list(found) == [name for _, name in expected[:3]]
        np.testing.assert_allclose(cosines, [cosine for cosine, _ in expected[:3]], atol=1e-6)
    assert gallery.search(probes, count=100)[0].shape == (7, 30)


def test_identify(gallery):
    assert gallery.identify([np.ones(DIM)], threshold=0.5)[0].nearest is None
    ann, bob = np.eye(DIM)[:2]
    gallery.enrol("ann", [ann], qualities=[Quality(None, 6.0)])
    gallery.enrol("bob", [bob], qualities=[Quality(None, 30.0)])
    probes = [ann + 0.1 * bob, bob, -ann - 2 * bob]
    answers = gallery.identify(probes, threshold=0.5)
    assert [each.verdict for each in answers] == ["identified", "identified", "unknown"]
    assert [each.person for each in answers] == ["ann", "bob", None]
    assert answers[0].cosine == pytest.approx(1 / np.sqrt(1.01))

    class Limits:
        utility, sharpness, threshold_rise = 0.0, 11.0, 0.5

    sharp = [Quality(None, 30.0)] * 3
    answers = gallery.identify(probes, threshold=0.5, qualities=sharp, limits=Limits)
    for answer, enrolled in zip(answers, (6.0, 30.0, 6.0), strict=True):
        expected = decide(
            answer.cosine,
            0.5,
            qualities=(sharp[0], Quality(None, enrolled)),
            limits=Limits,
        )
        named = {"same": "identified", "different": "unknown", "cannot say": "cannot say"}
        assert answer.verdict == named[expected.verdict]
    assert [each.person for each in answers] == ["ann", "bob", None]
    assert answers[2].verdict == "cannot say"
    assert "The enrolled face" in answers[2].reason
    soft = [Quality(None, 20.0)] * 3
    answers = gallery.identify(probes, threshold=0.5, qualities=soft, limits=Limits)
    assert [each.person for each in answers] == [None, "bob", None]
    assert answers[0].verdict == "cannot say"
    assert [each.threshold for each in answers] == [1.5, 0.5, 1.5]


def test_expected_fpir():
    assert expected_fpir(1e-3, 1) == pytest.approx(1e-3)
    assert expected_fpir(1e-3, 500) == pytest.approx(1 - 0.999**500)
    assert 0 < expected_fpir(1e-9, 10) <= 1e-8 * (1 + 1e-6)
    assert expected_fpir(1e-3, 0) == 0


def test_all_images_of_a_call_are_enrolled_or_none(gallery):
    gallery.enrol("ann", drawn(1), photos=["digest"])
    with pytest.raises(ValueError, match=r"enrolled once.*two\.jpg, which 'ann'"):
        gallery.enrol(
            "ann", drawn(2, 1), photos=["another", "digest"], sources=["one.jpg", "two.jpg"]
        )
    assert gallery.num_images == 1
    assert gallery.has_photo("ann", "digest")
    assert not gallery.has_photo("ann", "another")
    gallery.enrol("bob", drawn(1), photos=["digest"])
    with pytest.raises(ValueError, match="no person"), gallery.together():
        gallery.enrol("eve", drawn(1))
        gallery.remove_person("nobody")
    assert [each.name for each in gallery.people()] == ["ann", "bob"]


def test_names_are_those_of_every_system(gallery):
    gallery.enrol("Jos\u00e9", drawn(1))
    gallery.enrol("Jose\u0301", drawn(1))
    assert [(each.name, each.images) for each in gallery.people()] == [("Jos\u00e9", 2)]


def test_another_process_is_seen(gallery):
    gallery.enrol("ann", np.eye(DIM)[:1])
    assert gallery.search(np.eye(DIM)[1:2])[0].item() == "ann"
    with open_gallery() as other:
        other.enrol("bob", np.eye(DIM)[1:2])
    assert gallery.search(np.eye(DIM)[1:2])[0].item() == "bob"


def test_another_embedder_is_refused_with_the_ways_out(gallery):
    gallery.enrol("ann", drawn(1), crops=[np.zeros((112, 112, 3), "uint8")])
    ways = r"migrate`, or embed the kept crops again with `facemargin gallery rebuild`\.$"
    with pytest.raises(ValueError, match=rf"id f{{12}}.*theirs \(id e{{12}}\).*{ways}"):
        open_gallery(embedding_id=OTHER_ID, model="theirs")
    gallery.enrol("bob", drawn(1))
    with pytest.raises(ValueError, match=r"migrate`; crops .* missing for 1 of 2 images\.$"):
        open_gallery(embedding_id=OTHER_ID, model="theirs")


def test_rebuild_embeds_the_kept_crops(gallery):
    grey = [np.full((112, 112, 3), value, "uint8") for value in (50, 200)]
    gallery.enrol("ann", drawn(1), crops=grey[:1])
    gallery.enrol("bob", drawn(1), crops=grey[1:])

    def embed(crops):
        return np.stack([crops.mean(axis=(1, 2, 3)), np.ones(len(crops))], axis=1)

    new = {"embedding_id": OTHER_ID, "embedding_dim": 2, "model": "new"}
    with pytest.raises(ValueError, match=r"112x96\. Received: crops of the template arcface"):
        gallery.rebuild(embed, crop=Crop(112, 96, "sphereface"), **new)
    assert gallery.rebuild(embed, crop=Crop(112, 112), **new) == 2
    assert (gallery.embedding_id, gallery.embedding_dim, gallery.model) == (OTHER_ID, 2, "new")
    np.testing.assert_allclose(gallery.embeddings()[1], [[50, 1], [200, 1]], atol=1)
    gallery.enrol("eve", [[1.0, 2.0]])
    with pytest.raises(ValueError, match="1 of 3 images without one"):
        gallery.rebuild(embed, crop=Crop(112, 112), **new)


def test_a_map_of_the_embeddings_is_noted_and_stops_at_a_change_meanwhile(gallery):
    gallery.enrol("ann", drawn(3))
    new = {"embedding_id": OTHER_ID, "embedding_dim": 4, "model": "new", "note": "TAR 0.9"}
    with pytest.raises(ValueError, match="another process changed the gallery"):
        gallery.map_embeddings(interfering, **new)
    assert (gallery.embedding_id, gallery.num_images) == (ID, 4)
    assert gallery.map_embeddings(lambda rows: rows[:, :4], **new) == 4
    assert (gallery.migration, gallery.embedding_dim) == ("TAR 0.9", 4)
    np.testing.assert_array_equal(gallery.embeddings()[1][:3], drawn(3)[:, :4])


def interfering(rows):
    with open_gallery() as other:
        other.enrol("bob", drawn(1))
    return rows[:, :4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", np.ones((1, DIM))), "printable text"),
        (("a\n", np.ones((1, DIM))), "printable text"),
        ((7, np.ones((1, DIM))), "printable text"),
        (("ann", np.ones((1, 3))), r"\(N, 8\).*3 numbers"),
        (("ann", np.ones((0, DIM))), "no embedding"),
        (("ann", np.zeros((1, DIM))), "non-zero length"),
        (("ann", np.full((1, DIM), np.nan)), "finite"),
        (("ann", np.ones(DIM)), r"shape \(N, D\)"),
    ],
)
def test_bad_enrolments_are_refused(gallery, arguments, message):
    with pytest.raises(ValueError, match=message):
        gallery.enrol(*arguments)
    assert gallery.num_images == len(gallery) == 0


def test_bad_questions_are_refused(gallery):
    gallery.enrol("Ann Lee", drawn(1))
    with pytest.raises(ValueError, match="Did you mean 'Ann Lee'"):
        gallery.remove_person("An Lee")
    with pytest.raises(ValueError, match="no image of that number"):
        gallery.remove_image(9)
    with pytest.raises(ValueError, match="one value for each embedding"):
        gallery.enrol("ann", drawn(2), sources=["one"])
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        gallery.search(drawn(1), count=0)
    with pytest.raises(ValueError, match="bound to an embedder"):
        open_gallery("new.gallery", embedding_id=None)
    assert not os.path.exists("new.gallery")
    gallery.close()
    with pytest.raises(RuntimeError, match="closed database"):
        len(gallery)


def test_a_truncated_or_foreign_file_is_refused_and_stays_as_it_is():
    with open_gallery() as gallery:
        gallery.enrol("ann", drawn(200))
    size = os.path.getsize("people.gallery")
    for length in (50, 5_000, size // 2, size - 16_384):
        shutil.copy("people.gallery", "cut.gallery")
        os.truncate("cut.gallery", length)
        for opening in (lambda: Gallery.open("cut.gallery"), lambda: open_gallery("cut.gallery")):
            with pytest.raises(ValueError, match=r"cut\.gallery: the gallery is damaged"):
                opening()
        assert os.path.getsize("cut.gallery") == length
    Path("text.gallery").write_text("name,score\n" * 100)
    sqlite3.connect("other.gallery").executescript("CREATE TABLE songs (name)")
    Path("empty.gallery").touch()
    for name, kind in (("text", "kind of file"), ("other", "kind of data"), ("empty", "empty")):
        with pytest.raises(ValueError, match=rf"{name}\.gallery: must be a gallery.*{kind}"):
            Gallery.open(f"{name}.gallery")
    with pytest.raises(ValueError, match="must be a gallery"):
        open_gallery("other.gallery")
    with pytest.raises(FileNotFoundError):
        Gallery.open("missing.gallery")
    with pytest.raises(IsADirectoryError):
        Gallery.open(".")
    newer = sqlite3.connect("people.gallery")
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(ValueError, match=r"Received: version 2\. Install a newer"):
        Gallery.open("people.gallery")


def test_a_full_disk_loses_nothing(gallery):
    gallery.enrol("ann", drawn(1))
    run = gallery._store.connection.execute
    run(f"PRAGMA max_page_count = {run('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(OSError, match="The disk is full") as caught:
        gallery.enrol("bob", np.ones((5_000, DIM)))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "people.gallery")
    assert [each.name for each in gallery.people()] == ["ann"]
    run("PRAGMA max_page_count = 1000000")
    gallery.enrol("bob", np.ones((5_000, DIM)))


def test_a_locked_gallery_is_named_and_is_read_by_others(gallery):
    gallery.enrol("ann", drawn(1))
    with open_gallery(wait=0.05) as other:
        with gallery.together():
            gallery.enrol("bob", drawn(1))
            assert len(other) == 1
            with pytest.raises(BlockingIOError, match=r"for more than 0\.05 seconds"):
                other.enrol("eve", drawn(1))
        other.enrol("eve", drawn(1))
    assert len(gallery) == 3


# Without Keras: the command's processes do not open it either.
WRITER = """
import sys
sys.argv[0] = "facemargin"
import numpy as np
from keras_facemargin.gallery import Gallery
name = sys.argv[1]
with Gallery("people.gallery", embedding_id="f" * 64, embedding_dim=8) as gallery:
    for number in range(int(sys.argv[2])):
        gallery.enrol(f"{name} {number}", np.full((1, 8), number + 1.0))
        print(number, flush=True)
assert "keras" not in sys.modules
"""


def test_two_processes_write_at_once():
    for code, _, error in finish(*(start("-c", WRITER, name, 15) for name in ("a", "b"))):
        assert code == 0, error
    with Gallery.open("people.gallery") as gallery:
        assert {each.name for each in gallery.people()} == {
            f"{name} {number}" for name in "ab" for number in range(15)
        }


def test_a_killed_writer_loses_nothing_that_was_committed():
    process = start("-c", WRITER, "a", 1_000_000)
    for _ in range(20):
        assert process.stdout.readline()
    time.sleep(0.01)  # somewhere in a transaction
    process.kill()
    rest, _ = process.communicate()
    printed = 20 + sum(line.isdigit() for line in rest.split("\n")[:-1])
    with open_gallery() as gallery:
        assert gallery.num_images in (printed, printed + 1)
        assert {each.images for each in gallery.people()} == {1}
        check = gallery._store.connection.execute("PRAGMA integrity_check").fetchone()
        assert check == ("ok",)
        gallery.enrol("b", drawn(1))
