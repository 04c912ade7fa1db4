"""`python -m failover`, for a machine on which the console script is not installed."""

import sys

from failover.cli import main

sys.exit(main())
