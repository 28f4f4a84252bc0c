"""`python -m system` is the command `o2o`."""

import sys

from system.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
