"""What every storage backend must do."""

from __future__ import annotations

import copy
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np
import pytest

from scopecast.backends.filemanager import FileManager

__all__ = ["StorageBackendContract"]


class StorageBackendContract:
    """The tests of a `scopecast.StorageBackend`; a subclass gives the fixture `backend`.

    Attributes
    ----------
    samples : list
        Things that the backend keeps, at least two, all different.
    extension : str
        Of the files that they are saved as.

    Examples
    --------
    >>> from scopecast import MemoryBackend
    >>> class TestMemory(StorageBackendContract):
    ...     @pytest.fixture
    ...     def backend(self):
    ...         return MemoryBackend()
    """

    samples: ClassVar[list[Any]] = [
        np.arange(12, dtype="uint16").reshape(3, 4),
        np.linspace(0, 1, 24, dtype="float32").reshape(2, 3, 4),
        np.zeros((5, 5), "uint8"),
    ]
    extension: ClassVar[str] = ".npy"

    @pytest.fixture
    def backend(self) -> Any:
        """Return an empty backend."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `backend` that returns an empty one")

    def paths(self) -> list[str]:
        """Return a path for each sample."""
        return [f"run/a/t{number:03}{self.extension}" for number in range(len(self.samples))]

    @staticmethod
    def same(loaded: Any, saved: Any) -> None:
        """Fail unless what was loaded is what was saved."""
        if isinstance(saved, np.ndarray):
            assert np.asarray(loaded).dtype == saved.dtype
            np.testing.assert_array_equal(loaded, saved)
        else:
            assert loaded == saved

    def test_what_was_saved_can_be_loaded(self, backend: Any) -> None:  # noqa: D102
        for sample, path in zip(self.samples, self.paths(), strict=True):
            backend.save(sample, path)
            self.same(backend.load(path), sample)

    def test_batches_keep_their_order(self, backend: Any) -> None:  # noqa: D102
        backend.save_batch(self.samples, self.paths())
        loaded = backend.load_batch(self.paths()[::-1])
        for one, sample in zip(loaded, self.samples[::-1], strict=True):
            self.same(one, sample)

    def test_lists_of_different_lengths_save_nothing(self, backend: Any) -> None:  # noqa: D102
        with pytest.raises(ValueError, match=r"\d"):
            backend.save_batch(self.samples, self.paths()[1:])
        assert not any(backend.exists(path) for path in self.paths())

    def test_what_is_not_there_is_a_file_not_found_error(self, backend: Any) -> None:  # noqa: D102
        with pytest.raises(FileNotFoundError):
            backend.load(f"none{self.extension}")
        assert not backend.exists(f"none{self.extension}")
        assert not backend.is_file(f"none{self.extension}")
        assert not backend.is_dir("none")

    def test_saving_again_takes_the_place_of_what_was_there(self, backend: Any) -> None:  # noqa: D102
        path = self.paths()[0]
        for sample in self.samples:
            backend.save(sample, path)
            self.same(backend.load(path), sample)

    def test_files_and_directories_are_listed(self, backend: Any) -> None:  # noqa: D102
        inner, outer = self.paths(), f"run/notes{self.extension}"
        backend.save_batch([*self.samples, self.samples[0]], [*inner, outer])
        assert backend.list_files("run") == [outer]
        assert backend.list_files("run/a") == inner
        assert sorted(backend.list_files("run", recursive=True)) == sorted([*inner, outer])
        assert backend.list_files("run/a", pattern="t001*") == [inner[1]]
        assert backend.list_files("run", extensions={self.extension.upper()}) == [outer]
        assert backend.list_files("run", extensions={".none"}) == []
        assert sorted(backend.list_dir("run")) == sorted(["a", f"notes{self.extension}"])
        assert backend.exists("run") and backend.is_dir("run") and not backend.is_file("run")  # noqa: PT018
        assert backend.exists(outer) and backend.is_file(outer) and not backend.is_dir(outer)  # noqa: PT018
        self.same(backend.load(backend.list_files("run/a")[0]), self.samples[0])

    def test_paths_may_be_path_objects(self, backend: Any) -> None:  # noqa: D102
        path = PurePosixPath(self.paths()[0])
        backend.save(self.samples[0], path)
        self.same(backend.load(path), self.samples[0])
        assert backend.exists(path)

    def test_what_is_kept_is_not_the_callers_own(self, backend: Any) -> None:  # noqa: D102
        path, mine = self.paths()[0], copy.deepcopy(self.samples[0])
        backend.save(mine, path)
        if isinstance(mine, np.ndarray):
            mine[...] = 77
        elif isinstance(mine, dict | list):
            mine.clear()
        self.same(backend.load(path), self.samples[0])

    def test_options_for_other_backends_are_ignored(self, backend: Any) -> None:  # noqa: D102
        backend.save(self.samples[0], self.paths()[0], axes={"t": 0}, nothing_of_the_kind=object())
        self.same(backend.load(self.paths()[0]), self.samples[0])

    def test_a_file_manager_uses_it_by_any_name(self, backend: Any) -> None:  # noqa: D102
        files = FileManager({"mine": backend})
        files.save_batch(self.samples, self.paths(), backend="mine")
        assert files.list_files("run/a", backend="mine") == self.paths()
        self.same(files.load(self.paths()[1], backend=["mine"]), self.samples[1])
