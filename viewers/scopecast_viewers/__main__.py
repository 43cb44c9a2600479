"""``python -m scopecast_viewers KIND``: a receiver process."""

import sys

from scopecast_viewers.process import main

sys.exit(main())
