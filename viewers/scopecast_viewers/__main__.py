"""``python -m scopecast_viewers KIND``: a receiver process."""

import sys

from scopecast_viewers.receiver import main

sys.exit(main())
