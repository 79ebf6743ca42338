"""What every command reads and writes: images that are named, files that must be writable."""

from keras_facemargin.files import check_writable


def image_files(places):
    """The files named and all images in the folders named, in order."""
    endings = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
    files = []
    for place in places:
        if place.is_dir():
            found = sorted(
                path
                for path in place.rglob("*")
                if path.suffix.lower() in endings and not path.name.startswith(".")
            )
            if not found:
                raise ValueError(
                    f"A folder must hold images ({', '.join(endings)}). Received: {place}"
                )
            files += found
        elif place.is_file():
            files.append(place)
        else:
            raise FileNotFoundError(f"There is no such image or folder. Received: {place}")
    return files


def prepare_file(option, path, *endings):
    """Refuses a file that could not be written before minutes are spent on making it."""
    if path.suffix not in endings or path.is_dir():
        raise ValueError(f"{option} must be a file *{' or *'.join(endings)}. Received: {path}")
    check_writable(path)
