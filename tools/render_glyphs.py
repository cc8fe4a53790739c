"""Render the masks of the *glyphs* set from the fonts that matplotlib ships: ``python tools/render_glyphs.py``.

Writes ``src/dfml/data/glyph_masks.npz``. Run only to change the set: shipped masks keep rasters the same under
every version of matplotlib, Pillow and FreeType. The file holds, for every class in the order train, val, test:
``masks`` uint8 [m, 32, 32] of 16 levels 0..15, ``classes`` int16 [m] (the class of each mask), ``faces`` int16 [m],
``class_names``, ``face_names`` and ``split_sizes`` (number of classes of train, val and test).
"""

import itertools
import random
import re
import sys
import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFilter, ImageFont

OUT = Path(__file__).parents[1] / "src/dfml/data/glyph_masks.npz"
FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
FULL_FACES = [
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
]
ASCII_FACES = ["cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"]  # their other code points are not what the cmap says
SIZE, INK = 32, 28  # a mask's longer side is INK pixels, centred in SIZE
SPLIT = (80, 20, 28)
SAME = 0.80  # cosine of slightly blurred, mean-free masks above which two characters of a face are one class
SAME_ANYWHERE = 0.88  # the same between different faces, where the same character differs more
BLOCKS = {  # script: code points; those that are not letters, digits or symbols are skipped below
    "latin": [*range(0x41, 0x5B), *range(0x61, 0x7B), 0xC6, 0xDF, 0xE6, 0xF0, 0xFE, 0x14A, 0x259, 0x283],
    "digit": range(0x30, 0x3A),
    "greek": [*range(0x391, 0x3AA), *range(0x3B1, 0x3CA)],
    "cyrillic": [*range(0x410, 0x450), 0x402, 0x404, 0x409, 0x40A, 0x40B],
    "armenian": [*range(0x531, 0x557), *range(0x561, 0x587)],
    "georgian": range(0x10D0, 0x10F1),
    "hebrew": range(0x5D0, 0x5EB),
    "arabic": [*range(0x621, 0x63B), *range(0x641, 0x64B)],
    "lao": range(0xE81, 0xEAF),
    "tifinagh": range(0x2D30, 0x2D66),
    "nko": range(0x7C0, 0x7EB),
    "canadian": range(0x1401, 0x1676),
    "lisu": range(0xA4D0, 0xA4F8),
    "sign": [
        *range(0x2600, 0x2670),
        0x2200,
        0x2203,
        0x2211,
        0x222B,
        0x221E,
        0x20AC,
        0xA3,
        0xA5,
        0xA7,
        0xB6,
        0x26,
        0x40,
    ],
}


def slug(script: str, code: int) -> str:
    """A readable, unique class name: ``greek_small_omega``."""
    words = re.findall(r"[a-z0-9]+", unicodedata.name(chr(code)).lower())
    noise = {"letter", "syllabics", "sign", "with", script}
    return "_".join([script, *(w for w in words if w not in noise)])


def render(font: ImageFont.FreeTypeFont, code: int) -> np.ndarray | None:
    """The character, cropped to its ink and scaled to fit: uint8 [32, 32] in 0..15; None where it has no ink."""
    canvas = Image.new("L", (480, 480))
    ImageDraw.Draw(canvas).text((160, 120), chr(code), fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        return None
    ink = canvas.crop(box)
    scale = INK / max(ink.size)
    width, height = (max(2, round(side * scale)) for side in ink.size)
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(ink.resize((width, height), Image.Resampling.BOX), ((SIZE - width) // 2, (SIZE - height) // 2))
    return np.round(np.asarray(mask) / 17).astype(np.uint8)


def faces() -> dict[str, tuple[ImageFont.FreeTypeFont, set[int]]]:
    """Each face with the code points that it really holds."""
    found = {}
    for name in FULL_FACES + ASCII_FACES:
        path = str(FONTS / f"{name}.ttf")
        held = set(FT2Font(path).get_charmap())
        if name in ASCII_FACES:
            held &= {c for c in range(128) if chr(c).isalnum()}
        font = ImageFont.truetype(path, 160, layout_engine=ImageFont.Layout.BASIC)
        found[name] = (font, held)
    return found


def signatures(mask: np.ndarray) -> np.ndarray:
    """What two masks are compared by, [2, 1024]: slightly blurred, without the mean, of length 1; as it is, and
    stretched to a square, because samples vary the aspect."""
    picture = Image.fromarray((mask * 17).astype(np.uint8))
    square = Image.new("L", (SIZE, SIZE))
    square.paste(picture.crop(picture.getbbox()).resize((INK, INK), Image.Resampling.BILINEAR), (2, 2))
    flat = np.stack([np.asarray(p.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float64) for p in (picture, square)])
    flat = flat.reshape(2, -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def coincide(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two characters, given as face: signatures, look nearly the same in some face or between two faces."""
    shared = one.keys() & other.keys()
    if any((one[face] * other[face]).sum(1).max() > SAME for face in shared):
        return True
    a, b = np.stack(list(one.values())), np.stack(list(other.values()))
    return bool(np.einsum("isp,jsp->ijs", a, b).max() > SAME_ANYWHERE)


def candidates() -> list[tuple[str, int]]:
    """(script, code point): scripts take turns, each in a fixed shuffled order."""
    queues = []
    for script, codes in BLOCKS.items():
        wanted = [c for c in codes if unicodedata.category(chr(c))[0] in "LNS" or script == "sign"]
        wanted = [c for c in wanted if unicodedata.name(chr(c), "") != ""]
        random.Random(script).shuffle(wanted)
        queues.append([(script, c) for c in wanted])
    longest = max(map(len, queues))
    return [q[i] for i in range(longest) for q in queues if i < len(q)]


def choose(fonts: dict, wanted: int) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Greedily: a character joins unless it nearly coincides with one that is in."""
    chosen: list[tuple[str, dict[str, np.ndarray]]] = []
    taken: list[dict[str, np.ndarray]] = []
    for script, code in candidates():
        masks = {name: render(font, code) for name, (font, held) in fonts.items() if code in held}
        masks = {name: mask for name, mask in masks.items() if mask is not None}
        if len(masks) < 2:
            continue
        own = {name: signatures(mask) for name, mask in masks.items()}
        if any(coincide(own, other) for other in taken):
            continue
        chosen.append((slug(script, code), masks))
        taken.append(own)
        if len(chosen) == wanted:
            return chosen
    sys.exit(f"only {len(chosen)} distinct characters, {wanted} wanted")


def main() -> None:
    """Choose, split, write."""
    fonts = faces()
    chosen = choose(fonts, sum(SPLIT))
    random.Random("split").shuffle(chosen)
    edges = [0, SPLIT[0], SPLIT[0] + SPLIT[1], sum(SPLIT)]
    chosen = [item for a, b in itertools.pairwise(edges) for item in sorted(chosen[a:b], key=lambda x: x[0])]
    names = [name for name, _ in chosen]
    assert len(set(names)) == len(names)
    rows = [(c, list(fonts).index(f), mask) for c, (_, masks) in enumerate(chosen) for f, mask in masks.items()]
    np.savez_compressed(
        OUT,
        masks=np.stack([mask for *_, mask in rows]),
        classes=np.array([c for c, *_ in rows], dtype=np.int16),
        faces=np.array([f for _, f, _ in rows], dtype=np.int16),
        class_names=np.array(names),
        face_names=np.array(list(fonts)),
        split_sizes=np.array(SPLIT),
    )
    print(f"{len(names)} classes, {len(rows)} masks, {OUT.stat().st_size} bytes: {OUT}")


if __name__ == "__main__":
    main()
