"""A pickle in the place of any file that dfml reads: its code does not run."""

import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from damage import outcome_of, plain

KEYS = ("images", "labels", "class_names", "header", "support", "query")


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def pickles(mark: Path) -> list[bytes]:
    """Plain, in a file of torch's, and in an array of objects."""
    torch.save({"head.weight": Payload(mark)}, saved := BytesIO())
    objects = np.array([Payload(mark)], dtype=object)
    np.savez(arrays := BytesIO(), **dict.fromkeys(KEYS, objects))
    return [pickle.dumps(Payload(mark)), saved.getvalue(), arrays.getvalue()]


def test_no_file_is_unpickled(every_kind, no_waiting, tmp_path):
    mark = tmp_path / "mark"
    contents = pickles(mark)
    pickle.loads(contents[0])
    assert mark.exists(), "the payload works"
    mark.unlink()
    for kind in every_kind:
        content, whole = kind.path.read_bytes(), plain(kind.read())
        try:
            for changed in contents:
                kind.path.write_bytes(changed)
                assert outcome_of(kind, whole)[0] in ("named", "no effect"), kind.name
                assert not mark.exists(), kind.name
        finally:
            kind.path.write_bytes(content)
