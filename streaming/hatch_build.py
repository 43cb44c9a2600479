"""Compiles the fence and the copies past the caches, and companding; without them, a lock and numpy do that."""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = Path("streaming")
#: The modules that are compiled, and what is done by numpy without them.
_MODULES = {
    "scopecast.memory._copying": "large frames will be copied",
    "scopecast.remote._companding": "previews for other machines will be made",
}


class CompilingBuildHook(BuildHookInterface[Any]):
    """Adds the extension modules to a wheel; an editable installation has each beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the modules. A wheel that has one is for this platform, and for all Pythons from 3.11 on."""
        self._folder = tempfile.TemporaryDirectory(prefix="scopecast-build-")
        for name, work in _MODULES.items():
            source = Path(self.root) / _SOURCES / f"{name.replace('.', '/')}.c"
            try:
                module = _compile(name, source, Path(self._folder.name)) if _is_possible() else None
            except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and everything works without
                self.app.display_warning(f"{work} by numpy, as {source.name} can't be compiled: {error}")
                module = None
            if version == "editable":
                _put(module, source)
            elif module is not None:
                folder = source.parent.relative_to(Path(self.root) / _SOURCES)
                build_data["force_include"][str(module)] = (folder / module.name).as_posix()
                build_data["pure_python"] = False
                build_data["tag"] = f"cp311-abi3-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiler's temporary files."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def _is_possible() -> bool:
    """Whether Python has the stable ABI: free-threaded Python has none."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


def _put(module: Path | None, source: Path) -> None:
    """Put a module beside its source, replacing an older one or one that can no longer be compiled."""
    package = source.parent
    for old in package.glob(f"{source.stem}.*"):
        if old.suffix not in (".c", ".pyi") and (module is None or old.name != module.name):
            old.unlink()
    if module is not None:
        # Not written to, but replaced: running programs have the old one mapped.
        shutil.copy(module, package / f"{module.name}.new").replace(package / module.name)


def _platform() -> str:
    """Return the platform's part of the tag: this system, and not the oldest that a wheel for many would run on."""
    from packaging.tags import sys_tags

    platforms = (tag.platform for tag in sys_tags())
    return next(each for each in platforms if "manylinux" not in each and "musllinux" not in each)


def _compile(name: str, source: Path, folder: Path) -> Path:
    """Compile a module into a folder, and return its path there."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    extension = Extension(name, [str(source)], py_limited_api=True)
    command = build_ext(Distribution({"name": "scopecast", "ext_modules": [extension]}))
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(name))
