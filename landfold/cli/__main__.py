"""The command ``landfold`` as ``python -m landfold.cli``."""

import sys

from landfold.cli import main

sys.exit(main())
