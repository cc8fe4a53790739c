"""dfml as a page says it, but trained for two steps and judged on ten tasks; what serves goes on until it is killed."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

SERVING = ("serve", "serve-teacher", "app")
WAIT = 120


def shortened(words: list[str]) -> list[str]:
    if words[:2] == ["zoo", "build"]:  # a cluster is what tests/compute has
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        return [*without(words, "--models", "--executor"), "--models", "5"]
    if words[0] == "evaluate" and Path(words[1], "config.json").exists():
        return [*without(words, "--episodes"), "--episodes", "10"]
    if words[0] == "train" and not {"--show", "--resume"} & set(words):
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        return [*without(words, "--steps", "--minutes"), "--steps", "2"]
    return words


def without(words: list[str], *options: str) -> list[str]:
    for name in options:
        if name in words:
            at = words.index(name)
            words = words[:at] + words[at + 2 :]
    return words


def main() -> int:
    words = shortened(sys.argv[1:])
    if words == ["demo"]:  # five minutes; tests/cli/test_cli.py
        return 0
    command = [sys.executable, "-m", "dfml", *words]
    if words[0] not in SERVING:
        return subprocess.run(command, check=False).returncode
    said = Path(f"{words[0]}.log")
    with said.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    Path(f"{words[0]}.pid").write_text(str(process.pid))
    for _ in range(WAIT * 10):
        time.sleep(0.1)
        if "http://" in said.read_text() or process.poll() is not None:
            break
    print(said.read_text())
    return process.poll() or 0


if __name__ == "__main__":
    sys.exit(main())
