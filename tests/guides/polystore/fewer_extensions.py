class RestrictedNapariBackend(NapariStreamingBackend):
    """Napari backend that only supports TIFF files."""
    SUPPORTED_EXTENSIONS = {'.tif', '.tiff'}
