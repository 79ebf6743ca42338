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


def printable(name):
    """A file name as text that every writer takes: bytes that are not UTF-8 become escapes."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def prepare_file(option, path, *endings):
    """Refuses a file that could not be written before minutes are spent on making it."""
    if path.suffix not in endings or path.is_dir():
        raise ValueError(f"{option} must be a file *{' or *'.join(endings)}. Received: {path}")
    check_writable(path)


def prepare_folder(folder, *names):
    """Makes a folder, and refuses files in it that could not be written, before the work."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        check_writable(folder / name)


def prepare_page(report):
    """Refuses a page, or the JSON beside it, that could not be written or drawn."""
    from keras_facemargin.evaluate.plots import require_matplotlib

    prepare_file("--report", report, ".html")
    check_writable(report.with_suffix(".json"))
    require_matplotlib()
