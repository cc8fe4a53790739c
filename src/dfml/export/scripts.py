"""The scripts that are written beside exported files: they label images without dfml."""

ONNX = '''"""Label images: python THIS_SCRIPT IMAGES...   (numpy, onnxruntime, pillow)"""
import json, sys, pathlib
import numpy as np, onnxruntime
from PIL import Image, ImageOps

model = onnxruntime.InferenceSession(pathlib.Path(__file__).with_name(FILE))
about = json.loads(model.get_modelmeta().custom_metadata_map["dfml"])
height, width, channels = about["input"]
unread = 0
for path in sys.argv[1:] or sys.exit(__doc__):
    try:
        picture = ImageOps.exif_transpose(Image.open(path))
    except OSError as error:
        print(path, error, sep="\\t", file=sys.stderr)
        unread += 1
        continue
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = ImageOps.fit(picture.convert("L" if channels == 1 else "RGB"), (width, height), Image.Resampling.BILINEAR)
    images = np.asarray(picture, np.uint8).reshape(1, height, width, channels)
    probabilities, logits = model.run(None, {"images": images})
    known = about["floor"] is None or logits.max() >= about["floor"]
    label = about["class_names"][probabilities.argmax()] if known else about["none"]
    print(path, label, f"{100 * probabilities.max():.1f} %", sep="\\t")
sys.exit(unread > 0)
'''
PT2 = (
    ONNX.replace("(numpy, onnxruntime, pillow)", "(numpy, torch, pillow)")
    .replace("import numpy as np, onnxruntime", "import numpy as np, torch")
    .replace(
        """model = onnxruntime.InferenceSession(pathlib.Path(__file__).with_name(FILE))
about = json.loads(model.get_modelmeta().custom_metadata_map["dfml"])
""",
        """kept = {"dfml": ""}
model = torch.export.load(pathlib.Path(__file__).with_name(FILE), extra_files=kept).module()
about = json.loads(kept["dfml"])
""",
    )
    .replace("np.asarray(picture, np.uint8)", "torch.from_numpy(np.array(picture, np.uint8))")
    .replace('model.run(None, {"images": images})', "model(images)")
)
SCRIPTS = {".onnx": ONNX, ".pt2": PT2}
