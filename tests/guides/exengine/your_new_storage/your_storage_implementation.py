from exengine.kernel.data_storage_base import DataStorage

class YourNewStorage(DataStorage):
    def __init__(self):
        super().__init__()
        # Your storage-specific initialization code here

    # Implement the abstract methods from DataStorage
    # Refer to data_storage_base.py for the full list of methods to implement
