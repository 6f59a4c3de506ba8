"""`python -m keras_gcp`: the command line."""

import sys

from keras_gcp.cli import main

if __name__ == "__main__":
    sys.exit(main())
