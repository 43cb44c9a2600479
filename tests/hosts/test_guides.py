"""The two guides that the storage API and ExEngine's storage follow: every block of code in them runs here.

The blocks are in ``tests/guides``, as the guides have them but for the lines that import from polystore, which import
from scopecast instead. Where a block is a sketch ("implement required methods"), the test writes what is missing in
the place of that comment.

polystore, "Creating Custom Backends" (``guides/polystore``):

====================================  =================================================================
Basic Backend                         ``json_storage``: `test_the_basic_backend_keeps_files_as_json`
Basic Backend, usage                  ``json_storage_usage``: the same
Read-Only Backend                     ``http``: `test_the_read_only_backend_reads_from_a_web_server`
Context Manager Support               ``temporary``: `test_the_temporary_backend_cleans_up`
Context Manager Support, usage        ``temporary_usage``: the same
Compression Support                   ``compressed``: `test_the_compressed_backend_keeps_less`
Caching Layer                         ``cached``: `test_the_cached_backend_loads_once_until_something_is_saved`
Database Backend Example              ``sqlite``: `test_the_database_backend_keeps_whatever_can_be_pickled`
Testing Your Backend                  ``testing_your_backend``: `test_the_guides_own_tests_pass`
Declare Supported Extensions          ``streaming``: `test_the_streaming_backend_…` and `TestStreamingBackendOfTheGuide`
Adding Support                        ``more_extensions``: `test_a_format_that_is_added_is_shown`
Removing Support                      ``fewer_extensions``: `test_a_backend_that_is_restricted_keeps_to_it`
Publishing, ``pyproject.toml``        ``pyproject.toml``: `test_a_published_backend_is_there_once_it_is_imported`
Publishing, the package               ``my_package``: the same
Publishing, its use                   ``my_package_usage``: the same
====================================  =================================================================

ExEngine, "Adding New Storage Backends" (``guides/exengine``):

====================================  =================================================================
Code Organization                     ``your_new_storage``, a folder as the guide has it: `test_a_storage_in_exengines…`
Additional Dependencies (three)       ``*.toml``, parts of one table: `test_the_groups_of_dependencies_…`
Implementing a New Storage Backend    ``your_storage_implementation``: `test_a_storage_in_exengines…`
Adding Tests                          ``test_your_storage``: the same, for a storage as the guide has it and for ours
Running Tests                         the same; the other commands install and build ExEngine itself
====================================  =================================================================
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import tomllib
import types
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from packaging.requirements import Requirement

from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import BackendRegistry, DiskBackend, FileManager, MemoryBackend, NapariStreamingBackend
from scopecast.backends import storage
from scopecast.testing import Observer, StreamingBackendContract

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDES = Path(__file__).resolve().parents[1] / "guides"

# What the tests write where a guide only says that something is missing; by that comment.
REQUIRED = "    # Implement required methods...\n"
TEMPORARY = """
    def save(self, data, file_path, **kwargs):
        np.save(Path(self.temp_dir, file_path), data)

    def load(self, file_path, **kwargs):
        return np.load(Path(self.temp_dir, file_path))

    def exists(self, path):
        return Path(self.temp_dir, path).exists()

    def list_files(self, directory, **kwargs):
        return sorted(os.listdir(Path(self.temp_dir, directory)))
"""
OTHER_REQUIRED = "    # Implement other required methods...\n"
COMPRESSED = """
    def exists(self, path):
        return os.path.exists(path)

    def list_files(self, directory, **kwargs):
        return sorted(os.path.join(directory, name) for name in os.listdir(directory))
"""
DELEGATE = "    # Delegate other methods to wrapped backend...\n"
CACHED = """
    def exists(self, path):
        return self.backend.exists(path)

    def list_files(self, directory, **kwargs):
        return self.backend.list_files(directory, **kwargs)
"""
IMPLEMENTATION = "    # Implementation...\n"
MY_BACKEND = """
    def __init__(self):
        self.files = {}

    def save(self, data, file_path, **kwargs):
        self.files[file_path] = data

    def load(self, file_path, **kwargs):
        return self.files[file_path]

    def exists(self, path):
        return path in self.files

    def list_files(self, directory, **kwargs):
        return list(self.files)
"""
ABSTRACT_METHODS = """
    # Implement the abstract methods from DataStorage
    # Refer to data_storage_base.py for the full list of methods to implement
"""
DATA_STORAGE = """
        self.frames = {}

    def put(self, data_coordinates, data, metadata):
        self.frames[frozenset(data_coordinates.items())] = data, metadata

    def __contains__(self, data_coordinates):
        return frozenset(data_coordinates.items()) in self.frames

    def __getitem__(self, data_coordinates):
        return self.get_data(data_coordinates)

    def get_data(self, data_coordinates):
        return self.frames[frozenset(data_coordinates.items())][0]

    def get_metadata(self, data_coordinates):
        return self.frames[frozenset(data_coordinates.items())][1]

    def finish(self):
        pass

    def close(self):
        pass
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own as the current one, where the guides' backends write; their classes are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(storage, "_classes", dict(storage._classes))
    return tmp_path


def complete(source: str, missing: str, written: str) -> str:
    assert source.count(missing) == 1, f"the guide has no {missing!r}"
    return source.replace(missing, written)


def block(name: str, missing: str = "", written: str = "", **names: Any) -> types.SimpleNamespace:
    """Run a block of polystore's guide, with the names that blocks before it left. Return the names that it leaves."""
    file = GUIDES / "polystore" / f"{name}.py"
    source = file.read_text(encoding="utf-8")
    if missing:
        source = complete(source, missing, written)
    namespace = {"__name__": f"guide.{name}", **names}
    exec(compile(source, file, "exec", dont_inherit=True), namespace)
    return types.SimpleNamespace(**namespace)


# ---- polystore's guide: storage ------------------------------------------------------------------------------------


def test_the_basic_backend_keeps_files_as_json(folder: Path, capsys: pytest.CaptureFixture[str]):
    made = block("json_storage")
    used = block("json_storage_usage")
    assert capsys.readouterr().out == "{'key': 'value', 'count': 42}\n"
    assert type(used.registry["json_storage"]) is made.JSONStorageBackend
    assert (folder / "json_storage" / "config.json").exists()

    use = partial(getattr, used.fm)
    paths = ["run/a.json", "run/b.json", "run/old/c.json"]
    use("save_batch")([1, [2], "three"], paths, backend="json_storage")
    assert use("load_batch")(paths, backend="json_storage") == [1, [2], "three"]
    assert sorted(use("list_files")("run", backend="json_storage")) == paths[:2]
    assert sorted(use("list_files")("run", backend="json_storage", recursive=True)) == paths
    assert use("list_files")("none", backend="json_storage") == []
    assert sorted(use("list_dir")("run", backend="json_storage")) == ["a.json", "b.json", "old"]
    assert [use(ask)("run/old", backend="json_storage") for ask in ("exists", "is_file", "is_dir")] == [
        True,
        False,
        True,
    ]
    with pytest.raises(NotADirectoryError, match="Not a directory: none"):
        use("list_dir")("none", backend="json_storage")
    with pytest.raises(FileNotFoundError, match="File not found: none"):
        use("load")("none", backend="json_storage")


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The address of a web server that has the files of the folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}/"
        made.shutdown()
        thread.join()


def test_the_read_only_backend_reads_from_a_web_server(folder: Path, server: str):
    pytest.importorskip("requests")
    (folder / "a.bin").write_bytes(b"one")
    (folder / "b.bin").write_bytes(b"two")
    made = block("http")
    registry = BackendRegistry()
    assert "http" in registry
    with pytest.raises(TypeError, match=r'registry\["http"\] = HTTPBackend\(base_url\)'):
        registry["http"]
    registry["http"] = made.HTTPBackend(server)
    for files in (FileManager(registry), FileManager({"http": made.HTTPBackend(server)})):
        assert files.load("a.bin", backend="http") == b"one"
        assert files.load_batch(["b.bin", "a.bin"], backend="http") == [b"two", b"one"]
        asked = [files.exists("a.bin", "http"), files.is_file("a.bin", "http"), files.is_file("c.bin", "http")]
        assert asked == [True, True, False]
        assert not files.is_dir("a.bin", backend="http")
        with pytest.raises(NotImplementedError, match="listing"):
            files.list_files(".", backend="http")
        with pytest.raises(NotImplementedError):
            files.list_dir(".", backend="http")
        with pytest.raises(TypeError, match="only reads"):
            files.save(b"", "c.bin", backend="http")


def test_the_temporary_backend_cleans_up():
    made = block("temporary", REQUIRED, TEMPORARY, np=np, Path=Path, os=os)
    folders: list[Path] = []

    class Watched(made.TemporaryBackend):
        def save(self, data: Any, file_path: str, **options: Any) -> None:
            super().save(data, file_path, **options)
            folders.append(Path(self.temp_dir))
            np.testing.assert_array_equal(self.load(file_path), data)
            assert self.list_files(".") == ["temp_file.npy"]

    block("temporary_usage", TemporaryBackend=Watched, FileManager=FileManager, data=np.arange(6).reshape(2, 3))
    assert [folder.exists() for folder in folders] == [False]
    assert isinstance(BackendRegistry()["temporary"], made.TemporaryBackend)


def test_the_compressed_backend_keeps_less(folder: Path):
    made = block("compressed", OTHER_REQUIRED, COMPRESSED, os=os)
    registry = BackendRegistry()
    files = FileManager(registry)
    image = np.zeros((64, 64), "uint16")
    files.save(image, "t0.npy", backend="compressed")
    np.testing.assert_array_equal(files.load("t0.npy", backend="compressed"), image)
    assert (folder / "t0.npy").stat().st_size < image.nbytes / 10
    assert type(registry["compressed"]) is made.CompressedBackend
    assert files.is_file("t0.npy", backend="compressed")


def test_the_cached_backend_loads_once_until_something_is_saved():
    made = block("cached", DELEGATE, CACHED)
    loads: list[str] = []

    class Slow(MemoryBackend):
        def load(self, file_path: Any, **options: Any) -> Any:
            loads.append(str(file_path))
            return super().load(file_path, **options)

    registry = BackendRegistry()
    with pytest.raises(TypeError, match=r'registry\["cached"\] = CachedBackend\(wrapped_backend\)'):
        registry["cached"]
    registry["cached"] = made.CachedBackend(Slow())
    files = FileManager(registry)
    files.save_batch([1, 2], ["run/a", "run/b"], backend="cached")
    assert [files.load("run/a", backend="cached") for _ in range(3)] == [1, 1, 1]
    assert loads == ["run/a"]
    files.save(3, "run/a", backend="cached")
    assert files.load("run/a", backend="cached") == 3
    assert files.list_files("run", backend="cached") == ["run/a", "run/b"]
    assert files.is_file("run/a", backend="cached")


def test_the_database_backend_keeps_whatever_can_be_pickled(folder: Path):
    block("sqlite")
    files = FileManager(BackendRegistry())
    files.save({"gain": 2}, "run/camera", backend="sqlite")
    files.save_batch([stamped(0), stamped(1)], ["run/t0.npy", "run/t1.npy"], backend="sqlite")
    assert (folder / "polystore.db").exists()
    assert files.load("run/camera", backend="sqlite") == {"gain": 2}
    loaded = files.load_batch(["run/t1.npy", "run/t0.npy"], backend="sqlite")
    assert [check_stamp(frame)[0] for frame in loaded] == [1, 0]
    paths = ["run/camera", "run/t0.npy", "run/t1.npy"]
    assert sorted(files.list_files("run", backend="sqlite")) == sorted(files.list_dir("run", backend="sqlite")) == paths
    asked = [files.exists("run/camera", "sqlite"), files.is_file("run", "sqlite"), files.is_dir("run", "sqlite")]
    assert asked == [True, False, False]
    with pytest.raises(FileNotFoundError, match="File not found: none"):
        files.load("none", backend="sqlite")


STORES = {
    "memory": lambda: MemoryBackend,
    "disk": lambda: DiskBackend,
    "the guide's database": lambda: block("sqlite").SQLiteBackend,
    "the guide's compression": lambda: block("compressed", OTHER_REQUIRED, COMPRESSED, os=os).CompressedBackend,
}


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_the_guides_own_tests_pass(monkeypatch: pytest.MonkeyPatch, store: Any):
    package = types.ModuleType("my_package")
    package.MyCustomBackend = store()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_package", package)
    tests = block("testing_your_backend").TestMyCustomBackend
    names = [name for name in vars(tests) if name.startswith("test_")]
    assert len(names) == 3
    for name in names:
        test = tests()
        test.setup_method()
        getattr(test, name)()


# ---- polystore's guide: streaming ----------------------------------------------------------------------------------


def test_the_streaming_backend_shows_what_it_supports_by_name(caplog: pytest.LogCaptureFixture):
    roifile = pytest.importorskip("roifile", reason="needs the extra 'rois'")
    block("streaming")
    outline = roifile.ImagejRoi.frompoints([[1, 1], [9, 1], [5, 9]])
    batch = {"t0.tif": stamped(0), "cells.csv": "a,b", "t1.PNG": stamped(1), "about.json": {}, "t1.roi.zip": [outline]}
    with Observer("myviewer") as observer, BackendRegistry() as registry, caplog.at_level(logging.INFO):
        FileManager(registry).save_batch(list(batch.values()), list(batch), backend="my_stream")
        observer.wait_for(lambda: len(observer.seen) == 3)
        assert registry["my_stream"].flush(10)
        assert registry["my_stream"].stats().balanced
    assert [check_stamp(seen.pixels)[0] for seen in observer.seen[:2]] == [0, 1]
    assert [(seen.kind, seen.path) for seen in observer.seen[1:]] == [("image", "t1.PNG"), ("rois", "t1.roi.zip")]
    (told,) = [record for record in caplog.records if "cells.csv" in record.getMessage()]
    assert told.levelno == logging.INFO
    assert "about.json" in told.getMessage()


def test_the_streaming_backend_warns_once_where_its_viewer_is_not_installed(caplog: pytest.LogCaptureFixture):
    with block("streaming").MyStreamingBackend() as backend, caplog.at_level(logging.INFO, logger="scopecast"):
        image = np.zeros((8, 8), "uint8")
        backend.save_batch([image, "a,b", image], ["one.tif", "table.csv", "two.PNG"])
        backend.save_batch([image], ["three.jpg"])
        assert backend.stats().skipped == {"no viewer": 3}
        assert backend.stats().balanced
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "there is no viewer of the kind 'myviewer' (installed: " in warning


def test_a_format_that_is_added_is_shown():
    given = block("streaming")
    added = block("more_extensions").SUPPORTED_EXTENSIONS
    wider = type("Wider", (given.MyStreamingBackend,), {"SUPPORTED_EXTENSIONS": added})
    with Observer("myviewer") as observer, wider(launch=False) as backend:
        backend.save_batch([stamped(0), stamped(1)], ["t0.myformat", "t1.other"])
        observer.wait_for(lambda: observer.seen)
        assert backend.flush(10)
    assert [seen.path for seen in observer.seen] == ["t0.myformat"]


def test_a_backend_that_is_restricted_keeps_to_it():
    made = block("fewer_extensions", NapariStreamingBackend=NapariStreamingBackend)
    with Viewer("napari") as viewer, made.RestrictedNapariBackend(launch=False) as backend:
        receipt = backend.save_batch([stamped(t) for t in range(4)], ["t0.tif", "t1.png", "t2.TIFF", "t3.tif.bak"])
        assert receipt.sent == ("t0.tif", "t2.TIFF")
        assert [skipped.path for skipped in receipt.skipped] == ["t1.png", "t3.tif.bak"]
        assert backend.flush(10)
        assert [check_stamp(plane)[0] for plane in planes_of(viewer.streams[0]).values()] == [0, 2]
    assert type(BackendRegistry()["napari_stream"]) is NapariStreamingBackend, (
        "what only inherits a name takes no place"
    )


class TestStreamingBackendOfTheGuide(StreamingBackendContract):
    @pytest.fixture(autouse=True)
    def of_the_guide(self, folder: Path) -> None:
        type(self).backend_type = block("streaming").MyStreamingBackend


# ---- polystore's guide: publishing ---------------------------------------------------------------------------------


def python(*arguments: str, path: Path) -> str:
    """Run this Python with a folder of packages before its own. Return what it writes."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_published_backend_is_there_once_it_is_imported(folder: Path):
    source, site = folder / "source", folder / "site"
    shutil.copytree(GUIDES / "polystore" / "my_package", source / "my_package")
    package = source / "my_package" / "__init__.py"
    package.write_text(complete(package.read_text(), IMPLEMENTATION, MY_BACKEND))
    project = (GUIDES / "polystore" / "pyproject.toml").read_text()
    # The guide leaves the build system to the reader; this one is installed where the tests run.
    built = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    (source / "pyproject.toml").write_text(project + built + '[tool.hatch.build]\nonly-include = ["my_package"]\n')
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
    site.mkdir()
    python("-m", "pip", "install", *options, "--target", str(site), str(source), path=site)
    usage = (GUIDES / "polystore" / "my_package_usage.py").read_text()
    more = """
files = FileManager(registry)
files.save([1, 2], "a", backend="mybackend")
print(type(registry["mybackend"]).__module__, files.load("a", backend="mybackend"))
import importlib.metadata
print(importlib.metadata.version("polystore-mybackend"))
"""
    assert python("-c", usage + more, path=site) == "my_package [1, 2]\n0.1.0\n"


# ---- ExEngine's guide ----------------------------------------------------------------------------------------------

OURS = "from scopecast.hosts.exengine import LiveViewStorage as YourNewStorage\n"


@pytest.mark.parametrize("storage", ["the guide's", "ours"])
def test_a_storage_in_exengines_own_folders_passes_the_guides_tests(folder: Path, storage: str):
    pytest.importorskip("exengine", reason="needs the extra 'exengine'")
    shutil.copytree(GUIDES / "exengine" / "your_new_storage", folder / "your_new_storage")
    implementation = folder / "your_new_storage" / "your_storage_implementation.py"
    sketch = complete(implementation.read_text(), ABSTRACT_METHODS, DATA_STORAGE)
    implementation.write_text(sketch if storage == "the guide's" else OURS)
    (folder / "your_new_storage" / "__init__.py").write_text(
        "from .your_storage_implementation import YourNewStorage\n"
    )
    # The folder lies beside ExEngine's own storages without being written there.
    (folder / "conftest.py").write_text(
        "import exengine.storage_backends\nexengine.storage_backends.__path__.append(__file__.rpartition('/')[0])\n"
    )
    options = ("-v", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider")
    with Viewer("napari"):  # that ours finds, so that it opens no window
        told = python("-m", "pytest", *options, "your_new_storage/test", path=folder)
    assert "2 passed" in told


def test_the_groups_of_dependencies_are_parts_of_one_table():
    parts = [GUIDES / "exengine" / f"{name}.toml" for name in ("optional_dependencies", "all_group")]
    groups = tomllib.loads("".join(part.read_text() for part in parts))["project"]["optional-dependencies"]
    assert tomllib.loads((GUIDES / "exengine" / "storage_backends_group.toml").read_text()).items() <= groups.items()
    assert {Requirement(each).name for each in groups["all"]} >= set(groups["your_new_storage"])
