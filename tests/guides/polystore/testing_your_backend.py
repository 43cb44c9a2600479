import pytest
import numpy as np
from my_package import MyCustomBackend

class TestMyCustomBackend:
    def setup_method(self):
        self.backend = MyCustomBackend()

    def test_save_and_load(self):
        data = np.array([1, 2, 3])
        self.backend.save(data, "test.npy")
        loaded = self.backend.load("test.npy")
        np.testing.assert_array_equal(data, loaded)

    def test_batch_operations(self):
        data_list = [np.array([i]) for i in range(3)]
        paths = [f"test{i}.npy" for i in range(3)]

        self.backend.save_batch(data_list, paths)
        loaded_list = self.backend.load_batch(paths)

        for original, loaded in zip(data_list, loaded_list):
            np.testing.assert_array_equal(original, loaded)

    def test_file_not_found(self):
        with pytest.raises(FileNotFoundError):
            self.backend.load("nonexistent.npy")
