import pytest
import numpy as np
from exengine.storage_backends.your_new_storage import YourNewStorage

def test_your_storage_initialization():
    storage = YourNewStorage()
    assert isinstance(storage, YourNewStorage)

def test_put_and_get_data():
    storage = YourNewStorage()
    data = np.array([1, 2, 3])
    metadata = {"key": "value"}
    coordinates = {"time": 0, "channel": "DAPI"}

    storage.put(coordinates, data, metadata)

    assert coordinates in storage
    np.testing.assert_array_equal(storage.get_data(coordinates), data)
    assert storage.get_metadata(coordinates) == metadata

# Add more test cases as needed
