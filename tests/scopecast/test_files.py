"""Files that other programs use at the same time: nobody is hindered, and who looks for a moment hinders nobody."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from scopecast import files
from scopecast.files import insist, open_shared, remove
from scopecast.images.open import open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEEDS: dict[str, Callable[[Path], object]] = {
    "renames it": lambda path: path.rename(path.with_name("renamed")),
    "puts another in its place": lambda path: (_new(path.with_name("new")), path.with_name("new").replace(path)),
    "removes it": lambda path: path.unlink(),
    "appends to it": lambda path: path.open("ab").close(),
}


def _new(path: Path) -> None:
    path.write_bytes(b"another")


class Busy:
    """A file that another process has open for the first so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self) -> bytes:
        self.times -= 1
        if self.times >= 0:
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        return b"{}"


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(act, id=name, marks=[pytest.mark.needs("removal of open files")] if "another" in name else [])
        for name, act in DEEDS.items()
    ],
)
def test_another_program_does_what_it_wants_with_a_file_that_is_read(act: Callable[[Path], object], tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    descriptor = open_shared(path)
    try:
        act(path)
        assert os.read(descriptor, 100) == b"content"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["image.tif", "image.ome.tif", "image.png", "image.npy"])
def test_an_image_that_is_open_can_be_renamed_and_is_read_on(name: str, tmp_path: Path):
    """As writers do that put a finished file in the place of an unfinished one, while `watch` looks at it."""
    path, planes = tmp_path / name, np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30)
    if name.endswith("tif"):
        pytest.importorskip("tifffile").imwrite(path, planes)
    elif name.endswith("png"):
        planes = planes[:1]
        pytest.importorskip("imageio.v3").imwrite(path, planes[0])
    else:
        np.save(path, planes)
    with open_image(path) as image:
        path.rename(tmp_path / "renamed")
        read = [plane.array for plane in image.planes()]
    assert all((one == other).all() for one, other in zip(read, planes, strict=True))


def test_a_file_that_is_not_there_says_so_with_its_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as raised:
        open_shared(tmp_path / "none")
    assert os.fspath(raised.value.filename) == str(tmp_path / "none")
    remove(tmp_path / "none")


def test_a_file_that_another_program_looks_into_is_removed_when_it_has_done_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    monkeypatch.setattr(files, "_BUSY_S", 60.0)
    with path.open("rb") as other:
        monkeypatch.setattr("scopecast.files.time.sleep", lambda pause: other.close())
        remove(path)
    assert not path.exists()


def test_what_is_refused_for_a_moment_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_BUSY_S", 20.0)
    assert insist(Busy(3)) == b"{}"
    monkeypatch.setattr(files, "_BUSY_S", 0.01)
    with pytest.raises(PermissionError):
        insist(Busy(10**9))


@pytest.mark.needs("file modes")  # without them a refusal may pass
def test_what_may_not_be_done_is_an_error_at_once():
    busy = Busy(1)
    with pytest.raises(PermissionError):
        insist(busy)
    assert busy.times == 0
