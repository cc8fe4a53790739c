"""Signals: the first stops cleanly, wherever it comes; a second one at once."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from dfml.stopping import Interrupted, first_signal, interrupts


def program(code: str, **options) -> subprocess.CompletedProcess:
    """A program of dfml's own kind, without what takes long to import."""
    head = (
        "import os, signal, sys, time\nfrom dfml.stopping import *\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, timeout=60, **options
    )


@pytest.fixture
def usual():
    """Signals as in a terminal, where whoever runs the tests (nohup, a shell's background) has them ignored."""
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_the_innermost_hears_the_first_signal_and_the_second_does_what_it_did_outside(usual):
    heard = []
    with first_signal(lambda signum, _: heard.append(signum)):
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with interrupts():
        with first_signal(lambda signum, _: heard.append(signum)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert heard[1:] == [signal.SIGHUP]
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(Interrupted) as stop, interrupts():
            os.kill(os.getpid(), signum)
        assert stop.value.signum == signum


PROGRAM = """
with stoppable_program():
    try:
        {}
        time.sleep(30)
    except Interrupted as stop:
        print("clean", stop.signum, flush=True)
        sys.exit(128 + stop.signum)
"""
INSIDE = {
    "plainly": "os.kill(os.getpid(), {})",
    "in an import": "import fires_{}; print('imported', flush=True)",
    "in a destructor": "type('Fires', (), {{'__del__': lambda self: os.kill(os.getpid(), {})}})()",
}


@pytest.mark.parametrize("where", INSIDE)
def test_a_signal_is_never_swallowed(tmp_path, where):
    signum = int(signal.SIGTERM if where == "plainly" else signal.SIGINT)
    module = tmp_path / f"fires_{signum}.py"
    module.write_text(f"import os, time\ntry:\n    os.kill(os.getpid(), {signum}); time.sleep(0.3)\nexcept: pass\n")
    ran = program(PROGRAM.format(INSIDE[where].format(signum)), cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (128 + signum, "")
    assert ran.stdout.endswith(f"clean {signum}\n")
    assert ("imported" in ran.stdout) == (where == "in an import"), "a module is imported whole"


def test_a_second_signal_ends_the_program_at_once_and_one_that_is_ignored_stays_so():
    ran = program("""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with stoppable_program():
            os.kill(os.getpid(), signal.SIGHUP)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(30)
            finally:
                print("first", flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30)
    """)
    assert (ran.returncode, ran.stdout, ran.stderr) == (143, "first\n", "")
