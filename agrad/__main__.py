"""`python -m agrad`, the same as the command `agrad`."""

import sys

from agrad.cli import main

sys.exit(main())
