"""Learners and predictors on the Hugging Face hub: pushed with a card that says what they are made of, and fetched."""

import json
import tempfile
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import unsealed, visible
from dfml.learners.learner_file import LEARNER
from dfml.learners.predictor_file import PREDICTOR
from dfml.nn.foreign.base import library

PREFIX = "hf:"  # before OWNER/NAME, and @REVISION behind it
KINDS = {PREDICTOR: "a few-shot classifier", LEARNER: "a few-shot learner"}
CARD = """---
library_name: dfml
pipeline_tag: image-classification
tags: [few-shot-learning, meta-learning, data-free]
---
# {repo}

{what} by dfml: networks that were trained without any data, from a zoo of pre-trained classifiers alone.

{facts}

```bash
{command}
```

Its two files are safetensors and JSON; nothing in them is a program. A licence is the uploader's to state: the models
of the zoo may bind it.
"""


def fetched(source: str | Path) -> Path:
    """A path as it is; of ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``, the folder that the hub's copy lies in.

    Raises:
        NotAtHand: huggingface_hub is not installed.
        InputError: the hub cannot be reached, or has no such repository.
    """
    if not str(source).startswith(PREFIX):
        return Path(source)
    repo, _, revision = str(source).removeprefix(PREFIX).partition("@")
    hub = library("huggingface_hub", "hub")
    wanted = [f"{name}.{end}" for name in KINDS for end in ("json", "safetensors")]
    try:
        return Path(hub.snapshot_download(repo, revision=revision or None, allow_patterns=wanted))
    except Exception as error:  # of the network, of the hub, and of what lies between them
        raise _refused(source, error, "a repository that this machine can reach, or has fetched before") from error


def push(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Put a predictor, or the learner of a run, on the hub, in one commit with its card.

    Args:
        folder: of the predictor or run.
        repo: OWNER/NAME; made where there is none.
        private: of a new one.

    Returns:
        Its address.

    Raises:
        NotAtHand: huggingface_hub is not installed.
        InputError: neither is in the folder, or the hub refuses.
    """
    folder = Path(folder)
    name = next((name for name in KINDS if (folder / f"{name}.json").is_file()), None)
    if name is None:
        raise InputError(f"{folder}: neither a predictor nor a learner in it", "one of them", "check the path")
    hub = library("huggingface_hub", "hub")
    files = [folder / f"{name}.{end}" for end in ("json", "safetensors")]
    card = model_card(files[0], repo)
    try:
        with tempfile.TemporaryDirectory() as made:
            for path in files:
                (Path(made) / path.name).write_bytes(path.read_bytes())
            (Path(made) / "README.md").write_text(card, encoding="utf-8")
            api = hub.HfApi()
            address = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(folder_path=made, repo_id=repo, commit_message=f"{KINDS[name]} of dfml")
    except Exception as error:
        raise _refused(f"{PREFIX}{repo}", error, "a hub that can be reached, and leave to write there") from error
    return str(address)


def model_card(file: Path, repo: str) -> str:
    """README.md of a repository: what the file says of itself, and how it is used.

    Args:
        file: predictor.json or learner.json.
        repo: OWNER/NAME.
    """
    values = unsealed(json.loads(file.read_text(encoding="utf-8")), file, "write it again")
    about, kind = values.get("about", {}), file.stem
    facts: dict[str, Any] = {"Networks that look at an image": len(values["encoders"])}
    spec = values["encoders"][0]["input_spec"]
    facts["Images"] = f"{spec['channels']} channels, {spec['size']} pixels high"
    if kind == PREDICTOR:
        command = f"dfml predict {PREFIX}{repo} IMAGES..."
        facts["Classes"] = ", ".join(visible(name) for name in values["class_names"])
        facts["Can say none of these"] = "yes" if "floor" in values else "no"
        facts |= {"Images of each class": about.get("shots"), "Made by": about.get("made_by")}
        facts["Images of its support, each answered by the others"] = about.get("confidence")
    else:
        command = f"dfml adapt {PREFIX}{repo} --support FOLDER --out PREDICTOR"
        facts |= {"Learner": values["learner"], "Zoo": about.get("zoo"), "Method": about.get("method")}
        facts |= {"Steps": about.get("step"), "Zoo's hash": about.get("hash")}
    said = "\n".join(f"- {name}: {_plain(value)}" for name, value in facts.items() if value not in (None, {}, []))
    return CARD.format(repo=repo, what=KINDS[kind].capitalize(), facts=said, command=command)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items() if inner is not None)
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _refused(source: str | Path, error: Exception, wanted: str) -> InputError:
    said = str(error).strip().splitlines() or [""]
    return InputError(
        f"{source}: the hub gave nothing ({type(error).__name__}: {said[0]})",
        wanted,
        "check the name, the network and HF_HUB_OFFLINE; private repositories want `hf auth login`",
    )
