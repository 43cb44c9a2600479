"""The Java classes that PyImageJ needs, and no Fiji has: where they can be had without waiting for them.

They are two jars, imglib2-imglyb and imglib2-unsafe, of the SciJava repository. Without them `import imagej` fails as
soon as Java runs, so they are looked for before: in the Fiji, among what Maven or jgo has kept, and in the repository,
if that answers at once.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["gateway", "missing_jars"]

logger = logging.getLogger(__name__)

_NEEDED: Final = ("imglib2-imglyb", "imglib2-unsafe")
_REPOSITORY: Final = "https://maven.scijava.org/content/groups/public"
#: Seconds that the repository has to answer, and then to deliver.
ANSWER_S: Final = 5.0
DELIVER_S: Final = 40.0
# Both in processes of their own: a name that is not resolved hangs as long as the system likes.
_ASK: Final = """
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).close()
except urllib.error.HTTPError:
    pass  # the folder is not to be listed, and the server is there
"""
_FETCH: Final = """
import sys, imglyb, jgo, jgo.maven, scyjava.config  # imglyb tells scyjava which jar it needs
jgo.build("+".join(scyjava.config.endpoints), repositories={"scijava.public": sys.argv[1]},
          resolver=jgo.maven.PythonResolver(lenient=True))
"""


def missing_jars(jars: Iterable[Path]) -> list[Path] | None:
    """Return the jars that PyImageJ needs beside those of a Fiji, or None if it can't be used here.

    Parameters
    ----------
    jars
        Those of the Fiji.
    """
    if importlib.util.find_spec("imagej") is None:
        return None
    present = [jar.name for jar in jars]
    needed = [name for name in _NEEDED if not any(each.startswith(f"{name}-") for each in present)]
    if not needed:
        return []
    found = _kept(needed)
    if found is None and _fetch():
        found = _kept(needed)
    return found


def _kept(needed: list[str]) -> list[Path] | None:
    """Return the newest of each that Maven or jgo has kept on this machine; None if one is not there."""
    repository = Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository") / "net" / "imglib2"
    newest = []
    for name in needed:
        kept = [jar for jar in repository.glob(f"{name}/*/{name}-*.jar") if jar.stem == f"{name}-{jar.parent.name}"]
        if not kept:
            return None
        newest.append(max(kept, key=_version))
    return newest


def _version(jar: Path) -> list[int]:
    return [int(part) if part.isdigit() else -1 for part in jar.parent.name.split(".")]


def _fetch() -> bool:
    """Have jgo fetch them, unless the repository is out of reach. Return whether it has."""
    repository = os.environ.get("SCOPECAST_SCIJAVA_MAVEN", _REPOSITORY)
    if not repository:
        return False
    for program, limit in ((_ASK, ANSWER_S), (_FETCH, DELIVER_S)):
        try:
            ended = subprocess.run(
                [sys.executable, "-c", program, repository, str(limit)],
                capture_output=True,
                timeout=limit,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            logger.info("%s has not answered within %.0f s", repository, limit)
            return False
        if ended.returncode:
            said = ended.stderr.decode(errors="replace").strip().splitlines()
            logger.info("%s is out of reach: %s", repository, said[-1] if said else f"exit code {ended.returncode}")
            return False
    return True


def gateway() -> Any:
    """Return PyImageJ's ``net.imagej.ImageJ``, in the Java that runs; what PyImageJ raises has no common base."""
    import imagej

    # Otherwise it asks on macOS for an event loop of Cocoa's.
    made = imagej.init(mode="interactive:force" if sys.platform == "darwin" else "interactive")
    if not made:
        raise RuntimeError("PyImageJ has made no gateway")
    return made
