"""`python -m raybert.cli` is `raybert`."""

import sys

from raybert.cli import main

sys.exit(main())
