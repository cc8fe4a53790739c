"""Image sets: folders, arrays, the embedded glyphs, and class splits."""

from dfml.data.arrays import read_npz, write_npz
from dfml.data.folders import load_image, load_support, read_folder, write_folder
from dfml.data.glyphs import glyphs
from dfml.data.image_set import DataSplits, ImageSet
from dfml.data.load import load_data, load_images, load_split
from dfml.data.splits import given_splits, split_classes

__all__ = [
    "DataSplits",
    "ImageSet",
    "given_splits",
    "glyphs",
    "load_data",
    "load_image",
    "load_images",
    "load_split",
    "load_support",
    "read_folder",
    "read_npz",
    "split_classes",
    "write_folder",
    "write_npz",
]
