"""`python -m icl_eval` is the command line."""

import sys

from icl_eval.cli import main

sys.exit(main())
