"""Storage by name: the registry, one face for all backends, and the stores that come with scopecast."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import (
    BackendRegistry,
    DiskBackend,
    FileManager,
    MemoryBackend,
    NapariStreamingBackend,
    ReadOnlyBackend,
    Receipt,
    StorageBackend,
)
from scopecast.backends import storage
from scopecast.backends.storage import list_below

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the classes that a test defines."""
    monkeypatch.setattr(storage, "_classes", dict(storage._classes))


class Broken(NapariStreamingBackend):
    """A backend whose viewer can't show anything."""

    def save(self, data: Any, file_path: Any, **where: Any) -> Receipt:
        raise RuntimeError("the lamp is off")

    def save_batch(self, data_list: Any, file_paths: Any, **where: Any) -> Receipt:
        raise RuntimeError("the lamp is off")


# ---- the registry ------------------------------------------------------------------------------------------------


def test_what_comes_with_scopecast_is_registered():
    registry = BackendRegistry()
    assert {"memory", "disk", "napari_stream", "fiji_stream"} <= set(registry)
    assert isinstance(registry["memory"], MemoryBackend)
    assert registry["memory"] is registry["memory"]
    assert BackendRegistry()["memory"] is not registry["memory"], "each registry has instances of its own"


def test_a_backend_that_needs_arguments_is_an_error_that_shows_what_to_write():
    class HTTPBackend(ReadOnlyBackend):
        _backend_type = "http"

        def __init__(self, url: str, *, timeout: float = 1.0, **more: Any) -> None:
            self.url = url

        load = exists = list_files = lambda self, path: path

    registry = BackendRegistry()
    with pytest.raises(TypeError, match=r"\(url\); make it yourself: registry\[\"http\"\] = .*HTTPBackend\(url\)$"):
        registry["http"]
    registry["http"] = made = HTTPBackend("here")
    assert registry["http"] is made


def test_a_mistake_within_a_backends_constructor_is_not_mistaken_for_missing_arguments():
    class Faulty(MemoryBackend):
        _backend_type = "faulty"

        def __init__(self) -> None:
            len(5)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="object of type 'int' has no len"):
        BackendRegistry()["faulty"]


def test_a_storage_backend_of_the_same_name_elsewhere_is_an_error_that_names_both():
    body = {"_backend_type": "memory", "__module__": "their_package"}
    with pytest.raises(ValueError, match=r"\.backends\.stores\.MemoryBackend and their_package\.Mine; give one"):
        type("Mine", (MemoryBackend,), body)


def test_a_class_that_lacks_a_method_cannot_be_made():
    class Sketch(StorageBackend):
        def load(self, file_path: Any, **options: Any) -> None: ...

    with pytest.raises(TypeError, match="exists"):
        Sketch()


PLUGIN = """
from scopecast import MemoryBackend
class Vault(MemoryBackend):
    _backend_type = "vault"
"""


def test_a_backend_of_an_installed_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "vault_plugin.py").write_text(PLUGIN)
    info = tmp_path / "vault_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vault-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scopecast.backends]\nvault = vault_plugin:Vault\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.metadata.entry_points(group="scopecast.backends")["vault"]
    registry = BackendRegistry()
    assert "vault" in registry
    assert "vault" in list(registry)
    assert "vault_plugin" not in sys.modules, "looking does not import it"
    assert type(registry["vault"]).__name__ == "Vault"
    del sys.modules["vault_plugin"]


def test_a_registry_closes_what_it_has_made_and_nothing_else():
    class Closing(MemoryBackend):
        _backend_type = "closing"
        closed = 0

        def close(self) -> None:
            self.closed += 1

    mine = Closing()
    with BackendRegistry() as registry:
        made = registry["closing"]
        registry["mine"] = mine
    registry.close()
    assert (made.closed, mine.closed) == (1, 0)
    assert registry["closing"] is not made


# ---- listing -----------------------------------------------------------------------------------------------------

PATHS = ["a.tif", "run/t1.tif", "run/t2.TIF", "run/c.csv", "run/deep/t3.roi.zip", "running/t4.tif"]
LISTINGS = {
    "the top": ("", {}, ["a.tif"]),
    "the top by a dot": (".", {}, ["a.tif"]),
    "everything": ("", {"recursive": True}, sorted(PATHS)),
    "a directory": ("run", {}, ["run/c.csv", "run/t1.tif", "run/t2.TIF"]),
    "with a slash": ("run/", {}, ["run/c.csv", "run/t1.tif", "run/t2.TIF"]),
    "written for Windows": ("run\\deep", {}, ["run/deep/t3.roi.zip"]),
    "below, but not beside it": (
        "run",
        {"recursive": True},
        ["run/c.csv", "run/deep/t3.roi.zip", "run/t1.tif", "run/t2.TIF"],
    ),
    "extensions in any case": ("run", {"extensions": {".tif"}}, ["run/t1.tif", "run/t2.TIF"]),
    "compound": ("run", {"extensions": [".ROI.zip"], "recursive": True}, ["run/deep/t3.roi.zip"]),
    "a pattern of names": ("run", {"pattern": "t*", "extensions": None}, ["run/t1.tif", "run/t2.TIF"]),
    "no such": ("none", {"recursive": True}, []),
}  # fmt: skip


@pytest.mark.parametrize(("directory", "options", "found"), LISTINGS.values(), ids=LISTINGS)
def test_listing_below_a_directory(directory: str, options: dict[str, Any], found: list[str]):
    assert list_below(PATHS, directory, **options) == found


# ---- one face for all --------------------------------------------------------------------------------------------


def test_a_plain_dict_of_backends_is_a_registry():
    files = FileManager({"here": MemoryBackend()})
    files.save("text", "a.txt", backend="here")
    assert files.load("a.txt", backend="here") == "text"
    with pytest.raises(KeyError, match="there is no backend 'there'; the known ones: here"):
        files.load("a.txt", backend="there")
    with pytest.raises(TypeError, match=r"a registry is a BackendRegistry\(\) or a dict .*, not list"):
        FileManager([MemoryBackend()])  # type: ignore[arg-type]


def test_a_batch_is_saved_and_shown_in_one_call(tmp_path: Path):
    paths = [*(f"run/t{t}.tif" for t in range(3)), "run/table.csv"]
    data = [*(stamped(t) for t in range(3)), "a,b\n1,2\n"]
    registry = {"disk": DiskBackend(tmp_path), "napari_stream": NapariStreamingBackend(launch=False)}
    with Viewer("napari") as viewer, registry["napari_stream"] as live:
        files = FileManager(registry)
        results = files.save_batch(data, paths, backend=["napari_stream", "disk"])
        assert list(results) == ["napari_stream", "disk"]
        assert results["napari_stream"].sent == tuple(paths[:3])
        assert live.flush(10)
        shown = {index[0]: check_stamp(plane)[0] for index, plane in planes_of(viewer.streams[0]).items()}
    assert shown == {0: 0, 1: 1, 2: 2}
    for item, loaded in zip(data, files.load_batch(paths, backend="disk"), strict=True):
        np.testing.assert_array_equal(loaded, item)
    assert files.list_files("run", backend="disk") == sorted(paths)
    assert files.list_files("run", backend=["disk", "napari_stream"], pattern="*1*") == ["run/t1.tif"]


def test_what_fails_to_show_never_fails_what_is_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with Broken(launch=False) as broken:
        files = FileManager({"broken": broken, "disk": DiskBackend(tmp_path), "memory": MemoryBackend()})
        with caplog.at_level(logging.WARNING):
            results = files.save(stamped(1), "t1.npy", backend=["broken", "disk", "memory"])
        assert files.not_shown == 1
        assert "saved, but 'broken' could not show it: RuntimeError: the lamp is off" in caplog.text
        (skipped,) = results["broken"].skipped
        assert skipped == ("t1.npy", "the lamp is off")
        assert check_stamp(files.load("t1.npy", backend="disk"))[0] == 1
        assert check_stamp(files.load("t1.npy", backend="memory"))[0] == 1
        with pytest.raises(RuntimeError, match="lamp"):  # nothing is saved here: whoever only shows wants to know
            files.save(stamped(1), "t1.npy", backend=["broken"])


def test_what_cannot_be_saved_is_raised_and_not_shown():
    with Viewer("napari") as viewer, NapariStreamingBackend(launch=False) as live:
        files = FileManager({"live": live, "disk": DiskBackend("/proc/nowhere")})
        with pytest.raises(OSError, match="nowhere"):
            files.save(stamped(1), "t1.tif", backend=["live", "disk"])
        assert live.stats().frames.published == 0
        assert viewer.streams == ()


def test_several_are_read_in_order():
    first, second = MemoryBackend(), MemoryBackend()
    first.save("one", "a.txt")
    second.save("two", "a.txt")
    second.save("two", "b.txt")
    files = FileManager({"first": first, "second": second, "live": Broken(launch=False)})
    every = ["live", "first", "second"]
    assert files.load_batch(["b.txt", "a.txt"], backend=every) == ["two", "one"]
    assert files.list_files("", backend=every) == ["a.txt", "b.txt"]
    assert files.list_dir("", backend=every) == ["a.txt", "b.txt"]
    assert files.exists("b.txt", backend=every)
    assert files.is_file("b.txt", backend=every)
    assert not files.is_dir("b.txt", backend=every)
    with pytest.raises(FileNotFoundError, match=r"none of live, first, second has c\.txt"):
        files.load("c.txt", backend=every)


@pytest.mark.parametrize("names", [[], [None], ["memory", 5]], ids=repr)
def test_backend_is_a_name_or_names(names: Any):
    with pytest.raises(ValueError, match="backend= takes the name of a backend or a list"):
        FileManager(BackendRegistry()).save("a", "a.txt", backend=names)


def test_what_a_backend_cannot_do_is_an_error_that_names_it():
    class Archive(ReadOnlyBackend):
        load = exists = list_files = lambda self, path: path

    files = FileManager({"archive": Archive(), "live": Broken(launch=False)})
    with pytest.raises(TypeError, match=r"backend 'archive' \(.*Archive\) only reads: it has no save\(\)"):
        files.save("a", "a.txt", backend="archive")
    with pytest.raises(TypeError, match=r"backend 'live' \(Broken\) only shows: it has no load\(\)"):
        files.load("a.txt", backend="live")


def test_a_batch_of_unequal_lists_reaches_no_backend():
    memory = MemoryBackend()
    with pytest.raises(ValueError, match="2 items, but 1 paths"):
        FileManager({"memory": memory}).save_batch(["a", "b"], ["a.txt"], backend=["memory"])
    assert memory.list_files("", recursive=True) == []


# ---- the disk ----------------------------------------------------------------------------------------------------

ARRAYS = {
    "plane": np.arange(20, dtype="uint16").reshape(4, 5),
    "volume": np.arange(60, dtype="float32").reshape(3, 4, 5),
    "colour": np.arange(60, dtype="uint8").reshape(4, 5, 3),
    "bool": np.eye(4, dtype="bool"),
}


@pytest.mark.parametrize("extension", [".tif", ".tiff", ".npy", ".zarr", ".png"])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_from_disk_as_they_were(tmp_path: Path, extension: str, name: str):
    array = ARRAYS[name]
    if extension == ".png" and name in ("volume", "bool"):
        pytest.skip("PNG holds planes of integers and colours")
    disk = DiskBackend(tmp_path)
    disk.save(array, f"deep/er/a{extension}")
    loaded = disk.load(f"deep/er/a{extension}")
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)
    assert disk.list_files("", recursive=True) == [f"deep/er/a{extension}"], "nothing is left beside it"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.tif", {"a": 1}, "files hold pixels, not dict"),
        ("a.npy", [object()], "files hold pixels, not list"),
        ("a.txt", 5, "files hold text, not int: give a str"),
        ("a.xyz", "text", r"\.xyz holds bytes, not str: encode it, or choose one of .*\.zarr"),
        ("name", 5, "a file without extension holds bytes"),
        ("a.json", {1, 2}, "not JSON serializable"),
    ],
)
def test_what_a_format_cannot_hold_is_an_error_that_leaves_nothing(tmp_path: Path, name: str, data: Any, message: str):
    disk = DiskBackend(tmp_path)
    disk.save(b"before", name)
    with pytest.raises(TypeError, match=message):
        disk.save(data, name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"before"


def test_a_directory_that_is_no_array_is_never_replaced(tmp_path: Path):
    (tmp_path / "mine.zarr" / "results").mkdir(parents=True)
    with pytest.raises(OSError, match=r"mine\.zarr"):
        DiskBackend(tmp_path).save(np.zeros(4), "mine.zarr")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.zarr", "results"]


def test_files_that_are_being_written_are_not_listed(tmp_path: Path):
    disk = DiskBackend(tmp_path)
    disk.save("done", "a.txt")
    (tmp_path / ".writing-0000-b.txt").write_text("hal")
    assert disk.list_files(".") == ["a.txt"]
    assert disk.list_dir(".") == ["a.txt"]
    assert disk.list_files(tmp_path) == [f"{tmp_path}/a.txt"], "absolute, where it was asked for so"


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ModuleNotFoundError, match=r"\.tif files need tifffile, .*pip install \"scopecast\[disk\]\""):
        DiskBackend(tmp_path).save(np.zeros((4, 4)), "a.tif")


def test_arrays_in_memory_are_copies_that_nobody_can_change():
    memory, frame = MemoryBackend(), stamped(1)
    memory.save(frame, "./run//t1.tif")
    frame[:] = 0
    loaded = memory.load("run/t1.tif")
    assert check_stamp(loaded)[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        loaded[:] = 0
