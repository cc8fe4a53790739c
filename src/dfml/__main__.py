"""``python -m dfml``, and the command ``dfml``."""

import sys

from dfml.stopping import stoppable_program


def run() -> int:
    """Run a command; signals are heard before what takes long to import is."""
    with stoppable_program():
        try:
            from dfml.cli import main

            return main()
        except KeyboardInterrupt as stop:
            return 128 + getattr(stop, "signum", 2)


if __name__ == "__main__":
    sys.exit(run())
