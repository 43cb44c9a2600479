"""Compiles the module with the fence and the copies past the caches; without it, a lock and numpy do that."""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE = Path("streaming/scopecast/memory")
_MODULE = "scopecast.memory._copying"


class CopyingBuildHook(BuildHookInterface[Any]):
    """Adds the extension module to a wheel; an editable installation has it beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the module. A wheel that has it is for this platform, and for all Pythons from 3.11 on."""
        package = Path(self.root) / _PACKAGE
        self._folder = tempfile.TemporaryDirectory(prefix="scopecast-build-")
        try:
            module = _compile(package / "_copying.c", Path(self._folder.name)) if _is_possible() else None
            if version == "editable":
                _put(module, package)
                return
        except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and everything works without
            self.app.display_warning(f"large frames will be copied by numpy, as _copying.c can't be compiled: {error}")
            if version == "editable":
                _put(None, package)
            return
        if module is not None:
            build_data["force_include"][str(module)] = f"scopecast/memory/{module.name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiler's temporary files."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def _is_possible() -> bool:
    """Whether Python has the stable ABI: free-threaded Python has none."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


def _put(module: Path | None, package: Path) -> None:
    """Put the module beside its source, replacing an older one or one that can no longer be compiled."""
    for old in package.glob("_copying.*"):
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


def _compile(source: Path, folder: Path) -> Path:
    """Compile the module into a folder, and return its path there."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    extension = Extension(_MODULE, [str(source)], py_limited_api=True)
    command = build_ext(Distribution({"name": "scopecast", "ext_modules": [extension]}))
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(_MODULE))
