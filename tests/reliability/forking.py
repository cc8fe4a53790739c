"""Commands in forks of one process that has imported everything, with a fault at one of their writing calls.

Run as a script, this is that process: it takes jobs on its input, JSON a line, and answers each likewise.
"""

import ctypes
import errno
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

NONE, ONCE, FROM, SHORT, KILL = range(5)  # as in faults.c
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """What meets a writing call.

    Args:
        kind: once; that call and all after it; half of a write; the end of the process in it.
        call: its number, from 1.
        error: of a call that fails.
    """

    kind: int = NONE
    call: int = 0
    error: int = 0

    def __str__(self) -> str:
        name = ("no fault", "once", "from then on", "a short write", "kill")[self.kind]
        return f"{name} {errno.errorcode.get(self.error, '')} at call {self.call}"


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Args:
        code: its exit code, or minus the signal.
        said: on its output and its errors.
        calls: that write, below the folder that was watched; of a command that was not killed.
        met: the call that the fault met, and its path.
    """

    code: int
    said: str
    calls: int = 0
    met: str = ""


class Forks:
    """The process that forks; ends with the block.

    Args:
        library: of faults.c.
        folder: is watched.
    """

    def __init__(self, library: Path, folder: Path):
        environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "COLUMNS": "2000"}
        self.folder, self.library = folder, library
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def run(self, words: list[object], fault: Fault = Fault(), killed_after: float | None = None) -> Ended:
        job = {"words": [str(word) for word in words], "library": str(self.library), "folder": str(self.folder)}
        job |= {"fault": [fault.kind, fault.error, fault.call], "killed_after": killed_after}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self.process.stdout.readline()))


def built(folder: Path) -> Path:
    """The library of faults.c."""
    library = folder / "faults.so"
    words = ["cc", "-O1", "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"]
    subprocess.run(words, check=True, capture_output=True)
    return library


def child(job: dict, report: int, said: int) -> None:
    """Do a command, and say how it ended."""
    from dfml.cli import main

    for stream in (1, 2):
        os.dup2(said, stream)
    library = ctypes.CDLL(job["library"])
    library.met_at.restype = ctypes.c_char_p
    library.arm(job["folder"].encode(), *job["fault"])
    code = main(job["words"])
    calls, met = library.calls(), library.met_at().decode(errors="replace")
    library.arm(b"", NONE, 0, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(report, json.dumps({"code": code, "calls": calls, "met": met}).encode())


def served(job: dict) -> dict:
    """The answer to a job."""
    ended, report = os.pipe()
    with tempfile.TemporaryFile() as said:
        if (process := os.fork()) == 0:
            code = 70  # of an exception that no command may let out
            try:
                child(job, report, said.fileno())
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        os.close(report)
        if job["killed_after"] is not None and not select.select([ended], [], [], job["killed_after"])[0]:
            os.kill(process, signal.SIGKILL)
        with os.fdopen(ended, "rb") as file:
            answer = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said.seek(0)
        words = said.read().decode(errors="replace")
    return ({"code": code} if code or not answer else json.loads(answer)) | {"said": words}


def quick_picture(_canvas: object, file: BinaryIO, **_looks: object) -> None:
    """Stands in for the drawing of a picture, which takes longer than all the rest; it is written as others are."""
    file.write(bytes(10_000))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    import dfml.cli.commands
    import dfml.data
    import dfml.export
    import dfml.learners.predictor_file
    import dfml.report
    import dfml.runs.results
    import dfml.runs.train
    import dfml.zoo_building.build  # noqa: F401

    FigureCanvasAgg.print_figure = quick_picture
    for line in sys.stdin:
        answers.write(json.dumps(served(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
