"""The crops that a measurement of an embedder's file takes: one of each of some people."""

import numpy as np

from keras_facemargin.files import visible_files
from keras_facemargin.images import read_face


def crops_of_people(folder, crop, count):
    """The first crop of each of `count` people, spread over the folder.

    Returns:
        uint8 (count, height, width, 3), RGB.

    Raises:
        SystemExit: if the folder has fewer people.
    """
    people = {each: visible_files(each) for each in sorted(folder.glob("*")) if each.is_dir()}
    people = [each / min(names) for each, names in people.items() if names]
    if len(people) < count:
        raise SystemExit(
            f"--crops must be a folder with crops of {count} people or more, PERSON/IMAGE. "
            f"Received: {folder} with {len(people)} people."
        )
    chosen = people[:: len(people) // count][:count]
    return np.stack([read_face(each, crop) for each in chosen])
