"""Pictures that nobody labelled, read when they are drawn."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.data.arrays import read_npz
from dfml.data.folders import load_image
from dfml.data.image_set import ImageSet
from dfml.data.pictures import is_image
from dfml.errors import InputError
from dfml.nn.encoder import InputSpec


class UnlabelledImages:
    """A folder of pictures, in folders of it too, or the images of an ``.npz`` file, whose labels nobody looks at.

    Args:
        source: the folder or file. Of a folder only the names are read here.
        spec: what images are fitted to.

    Raises:
        InputError: nothing there, or no picture in it.
    """

    def __init__(self, source: str | Path, spec: InputSpec):
        path = Path(source)
        self.spec = spec
        self.files: Sequence[Path] | ImageSet
        if path.is_file():
            self.files = read_npz(path)
            return
        self.files = sorted(p for p in path.rglob("*") if is_image(p)) if path.is_dir() else []
        if not self.files:
            what = "no picture in it" if path.is_dir() else "no such file or folder"
            raise InputError(
                f"unlabelled images {source!s}: {what}",
                "a folder of pictures (.png, .jpg, or whatever else Pillow reads), or an .npz file",
                "check the path",
            )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """These images, fitted, float32 in [0, 1].

        Raises:
            InputError: a file that is no image, or is gone; it is named.
        """
        if isinstance(self.files, ImageSet):
            return self.spec.fit(self.files.batch(indices))
        return torch.stack([load_image(self.files[i], self.spec) for i in indices.tolist()])
