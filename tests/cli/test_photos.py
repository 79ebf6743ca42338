"""Each command that takes photos, on the 250 photos of the measured data, or on ten of them."""

import json

import numpy as np
import pytest

from keras_facemargin.gallery import Gallery


@pytest.mark.parametrize("step", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_every_command_takes_the_photos(step, facemargin, shared_data, tmp_path):
    model = ("--model", shared_data / "weights" / "visassist_mobilefacenet.tflite")
    photos = sorted((shared_data / "photos").glob("*/*.jpg"))[::step]
    for photo in photos:
        place = tmp_path / "people" / photo.parent.name / photo.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(photo)

    added = ("gallery", "add", "all.gallery", "people", "--largest", "--any-quality", *model)
    code, out, _ = facemargin(*added)
    assert code == 0 and f"{len(photos):,} images added, 0 refused" in out
    with Gallery.open("all.gallery") as gallery:
        assert {each.name for each in gallery.people()} == {each.parent.name for each in photos}

    right = 0
    for photo in photos[:: len(photos) // 5]:
        code, out, _ = facemargin("identify", "all.gallery", photo, "--json")
        face = json.loads(out)["faces"][0]
        assert (face["verdict"] == "identified") == (code == 0)
        right += face["nearest"] == photo.parent.name
    assert right >= 4  # of 5; a person's template has worse photos too
    assert facemargin("verify", photos[0], photos[-1], *model)[0] == 1

    code, _, _ = facemargin("align", "people", "crops")
    crops = list((tmp_path / "crops").rglob("*.jpg"))
    assert code == 0 and len(crops) == len(photos)
    code, _, _ = facemargin("embed", "crops", "--output", "crops.npz", *model)
    with np.load("crops.npz") as file:
        assert code == 0 and len(file["embeddings"]) == len(photos)
