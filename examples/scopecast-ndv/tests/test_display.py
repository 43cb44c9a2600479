"""scopecast's contract of a viewer, with a real window."""

from scopecast.testing import DisplayContract


class TestNdvDisplay(DisplayContract):
    """The display of this package."""

    kind = "ndv"
