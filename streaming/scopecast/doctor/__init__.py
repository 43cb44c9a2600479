"""The doctor: problems on this machine, each with its fix.

`diagnose` runs every check. A check is a function that yields findings; it starts nothing but bounded probes of what it
looks at (Qt, Java), and changes and downloads nothing. One that fails itself is a finding as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopecast.doctor import graphics, java, rundirectory, shared_memory, software, system
from scopecast.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Check = Callable[[], Iterator[Finding]]

__all__ = ["CHECKS", "Finding", "diagnose"]

#: In the order in which they are shown.
CHECKS: tuple[Check, ...] = (
    software.versions,
    software.messaging,
    software.duplicates,
    software.viewers,
    software.plugin,
    system.machine,
    system.descriptors,
    system.copies,
    shared_memory.size,
    shared_memory.leftovers,
    rundirectory.place,
    rundirectory.sockets,
    rundirectory.members,
    graphics.screen,
    graphics.windows,
    java.java,
    java.imagej,
)


def diagnose(checks: Sequence[Check] = CHECKS, watch: Callable[[str], None] = lambda name: None) -> list[Finding]:
    """Run the checks.

    Parameters
    ----------
    checks
        Which; all of them by default.
    watch
        Is told the name of each check before it is run.

    Returns
    -------
    list of Finding
        In the order of the checks.
    """
    found: list[Finding] = []
    for check in checks:
        name = f"{check.__module__.rpartition('.')[2]}: {check.__name__}"
        watch(name)
        try:
            found.extend(check())
        except Exception as error:  # noqa: BLE001 - told as a finding of its own, and the others go on
            message = f"this check itself failed: {type(error).__name__}: {error}".splitlines()[0]
            found.append(Finding(name, "warning", message, "report this to the developers of scopecast"))
    return found
