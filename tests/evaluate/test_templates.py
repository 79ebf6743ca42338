"""Templates against plain loops; and what a template without an image does to a result."""

import dataclasses

import numpy as np
import pytest
from shades import mean_colour, shade_of, write_shades

from keras_facemargin.evaluate import cosine_scores, embed, evaluate_searches, identify, templates
from keras_facemargin.evaluate.templates import (
    TemplatePairs,
    Templates,
    TemplateSearches,
    embed_templates,
    evaluate_template_pairs,
)


@pytest.fixture
def faces(tmp_path):
    """Five templates of three people: some with several media, one image in two templates."""
    shades = {f"{index}.png": shade_of(index // 3, 7 * index) for index in range(9)}
    images = write_shades(tmp_path, shades)
    rows = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]
    return Templates(
        subjects=np.array(["a", "a", "b", "b", "c"]),
        images=tuple(images[row] for row in rows),
        template=np.array([0, 0, 0, 2, 2, 3, 4, 4, 4, 1]),
        media=np.array([5, 5, 6, 7, 7, 7, 8, 8, 9, 5]),
        quality=np.linspace(0.2, 0.99, 10),
        covariates={"AGE": np.array(["1", "1", "2", "1", "3"])},
    )


def by_loops(faces, quality_weight=0.0):
    rows = embed(mean_colour, list(faces.images), progress=False).astype("float64")
    logits = np.minimum(np.log(faces.quality / (1 - faces.quality)) / 2, 7)
    pooled = []
    for number in range(len(faces)):
        own = faces.template == number
        total = 0.0
        for medium in set(faces.media[own].tolist()):
            of = own & (faces.media == medium)
            total = total + np.exp(quality_weight * logits[of].mean()) * rows[of].mean(axis=0)
        pooled.append(total / np.linalg.norm(total))
    return np.array(pooled)


@pytest.mark.parametrize("at_once", [1, 4, 1000])
@pytest.mark.parametrize("quality_weight", [0.0, 1.5])
def test_it_equals_the_loops(faces, at_once, quality_weight, monkeypatch):
    monkeypatch.setattr(templates, "IMAGES_AT_ONCE", at_once)
    pooled = embed_templates(mean_colour, faces, quality_weight=quality_weight, progress=False)
    np.testing.assert_allclose(pooled, by_loops(faces, quality_weight), atol=1e-6)


def test_each_image_is_embedded_once(faces):
    seen = []

    def spy(batch):
        seen.append(len(batch))
        return mean_colour(batch)

    embed_templates(spy, faces, flip=False, progress=False)
    assert seen == [9]


def test_a_quality_weight_needs_qualities(faces):
    bare = dataclasses.replace(faces, quality=None)
    with pytest.raises(
        ValueError, match="must be 0, the mean, because the protocol lists no qualities"
    ):
        embed_templates(mean_colour, bare, quality_weight=1.0, progress=False)


def pairs_of(faces):
    first, second = np.array([0, 2, 0, 1, 3]), np.array([1, 3, 2, 4, 4])
    return TemplatePairs(faces, first, second, faces.subjects[first] == faces.subjects[second])


def test_pairs_are_scored_in_order(faces):
    pairs = pairs_of(faces)
    result = evaluate_template_pairs(mean_colour, pairs, progress=False)
    pooled = by_loops(faces)
    expected = cosine_scores(pooled[pairs.first], pooled[pairs.second])
    np.testing.assert_allclose(result.scores, expected, atol=1e-6)
    assert result.same.tolist() == [True, True, False, False, False]
    assert (result.failed_to_enrol, result.accuracy) == (0, None)


def test_a_report_learns_whom_the_pairs_show(faces):
    plain = pairs_of(faces).pairs
    assert [side.tolist() for side in plain.people] == [[0, 1, 0, 0, 1], [0, 1, 1, 2, 2]]
    assert (plain.folds, plain.failed_to_enrol.any()) == (None, False)
    firsts = [faces.images[list(faces.template).index(number)] for number in range(5)]
    assert list(plain.first) == [firsts[row] for row in pairs_of(faces).first]
    np.testing.assert_array_equal(plain.same, pairs_of(faces).same)
    texts, numbers = pairs_of(faces).covariate("AGE")
    assert numbers.dtype == "int16"
    assert texts[numbers].tolist() == ["1", "1 / 2", "1 / 2", "1 / 3", "1 / 3"]
    some = dataclasses.replace(faces, covariates={"AGE": np.array(["1", "", "2", "1", "3"])})
    texts, numbers = pairs_of(some).covariate("AGE")
    assert "1 / unknown" in texts and not any(text.startswith(" ") for text in texts)
    with pytest.raises(ValueError, match=r"one of \['AGE'\]. Received: 'X'"):
        pairs_of(faces).covariate("X")


def without(faces, *templates):
    lost = np.flatnonzero(np.isin(faces.template, templates))
    return dataclasses.replace(faces, missing=frozenset(faces.images[row] for row in lost))


def test_a_template_without_an_image_is_rejected(faces):
    pairs = pairs_of(without(faces, 3, 4))
    assert pairs.failed_to_enrol.tolist() == [False, True, False, True, True]
    result = evaluate_template_pairs(mean_colour, pairs, progress=False)
    assert result.scores[[1, 3, 4]].tolist() == [-1.0] * 3
    assert pairs.pairs.failed_to_enrol.tolist() == pairs.failed_to_enrol.tolist()
    assert [image is None for image in pairs.templates.shown] == [False] * 3 + [True] * 2
    assert result.failed_to_enrol == 3
    often = TemplatePairs(
        pairs.templates, *(np.tile(side, 9) for side in (pairs.first, pairs.second, pairs.same))
    )
    again = evaluate_template_pairs(mean_colour, often, progress=False)
    assert again.scores.tolist() == 9 * result.scores.tolist()
    with pytest.raises(ValueError, match="at least one image"):
        embed_templates(mean_colour, without(faces, *range(5)), progress=False)


def test_one_missing_image_leaves_its_template(faces):
    lost = dataclasses.replace(faces, missing=frozenset({faces.images[2]}))
    kept = Templates(
        faces.subjects,
        *(faces.images[:2] + faces.images[3:],),
        template=np.delete(faces.template, 2),
        media=np.delete(faces.media, 2),
    )
    np.testing.assert_array_equal(
        embed_templates(mean_colour, lost, progress=False),
        embed_templates(mean_colour, kept, progress=False),
    )


def searches_of(faces):
    gallery, probes = np.array([0, 2]), np.array([1, 3, 4])
    return TemplateSearches(faces, {"G1": (gallery, probes), "G2": (probes, gallery)})


def test_searches_are_those_of_identify(faces):
    found = evaluate_searches(mean_colour, searches_of(faces), progress=False)
    pooled, subjects = embed_templates(mean_colour, faces, progress=False), faces.subjects
    g, p = [0, 2], [1, 3, 4]
    expected = identify(
        pooled[g], pooled[p], gallery_labels=subjects[g], probe_labels=subjects[p], progress=False
    )
    for name in ("ranks", "mate_scores", "best_scores", "gallery"):
        np.testing.assert_array_equal(getattr(found.results["G1"], name), getattr(expected, name))
    for name, rows in (("mated", p), ("non_mated", p), ("mates", g), ("nearest", g)):
        ours = getattr(found.results["G1"], name)
        np.testing.assert_array_equal(ours, np.array(rows)[getattr(expected, name)])
    assert list(found.results) == ["G1", "G2"]
    assert found.failed_to_enrol == 0


def test_who_cannot_be_enrolled_is_missed_and_raises_no_alarm(faces):
    # Of the gallery 2 ("b") is lost: its probe 3 is missed, not a stranger. The stranger 4 is lost.
    task = TemplateSearches(without(faces, 2, 4), {"G1": searches_of(faces).searches["G1"]})
    found = evaluate_searches(mean_colour, task, progress=False)
    result = found.results["G1"]
    assert (len(result.ranks), len(result.best_scores), result.gallery) == (2, 1, 2)
    assert result.rank_rate(10) == 0.5
    assert result.mate_scores[1] == result.best_scores[0] == -1.0
    assert (result.mated.tolist(), result.mates.tolist()) == ([1, 3], [0, -1])
    assert (result.non_mated.tolist(), result.nearest.tolist()) == ([4], [-1])
    assert found.failed_to_enrol == 2
    assert "With a template without an image" in dict(found.rows())


def test_a_mated_probe_without_an_image_is_missed(faces):
    task = TemplateSearches(without(faces, 3), {"G1": searches_of(faces).searches["G1"]})
    result = evaluate_searches(mean_colour, task, progress=False).results["G1"]
    assert result.rank_rate(10) == 0.5
    assert len(result.best_scores) == 1
    assert result.best_scores[0] > -1
