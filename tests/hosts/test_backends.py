"""Our own backends, by the contract that every backend is held to."""

from __future__ import annotations

import pytest

from scopecast import DiskBackend, FijiStreamingBackend, MemoryBackend, NapariStreamingBackend
from scopecast.testing import StorageBackendContract, StreamingBackendContract


class TestNapari(StreamingBackendContract):
    backend_type = NapariStreamingBackend


class TestFiji(StreamingBackendContract):
    backend_type = FijiStreamingBackend


class TestMemory(StorageBackendContract):
    @pytest.fixture
    def backend(self):
        return MemoryBackend()


class TestDisk(StorageBackendContract):
    @pytest.fixture
    def backend(self, tmp_path):
        return DiskBackend(tmp_path)


class TestDiskTIFF(TestDisk):
    extension = ".tif"


class TestDiskZarr(TestDisk):
    extension = ".zarr"


class TestDiskJSON(TestDisk):
    extension = ".json"
    samples = [{"gain": 2}, [1, 2, 3], "µm"]  # noqa: RUF012


class TestDiskBytes(TestDisk):
    extension = ".roi.zip"
    samples = [b"PK", b"", bytes(range(256))]  # noqa: RUF012
