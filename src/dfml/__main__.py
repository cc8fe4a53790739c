"""``python -m dfml``."""

import sys

from dfml.cli import main

sys.exit(main())
