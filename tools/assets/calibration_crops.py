"""The crops of CelebA on which the thresholds of the zoo's cards are calibrated."""


def calibration_crops(data, one_of=2):
    """Four crops of one of so many people of celeb2/train.

    Args:
        data: `pathlib.Path` of the folder that has celeb2/.
        one_of: 2 takes each second person.
    """
    people = sorted((data / "celeb2" / "train").iterdir())[::one_of]
    return [path for person in people for path in sorted(person.glob("*.jpg"))[:4]]
