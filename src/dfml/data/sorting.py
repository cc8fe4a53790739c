"""Images copied into a folder per class."""

import shutil
from itertools import count
from pathlib import Path

from dfml.data.folders import check_folder_name
from dfml.files import writing


def sort_image(image: Path, out: Path, label: str) -> Path:
    """Copy an image to ``out/label/name``, or beside what has that name already, as ``name-2``; gives its new path.

    Raises:
        InputError: a label that is no folder's name; a folder that cannot be written.
    """
    check_folder_name(label, "the predictor")
    folder = out / label
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = folder / (image.name if number == 1 else f"{image.stem}-{number}{image.suffix}")
            try:
                path.open("xb").close()  # nobody else gets this name
            except FileExistsError:
                continue
            shutil.copy2(image, path)
            return path
    raise AssertionError("names do not end")
