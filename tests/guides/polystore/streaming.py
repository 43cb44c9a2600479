from scopecast import StreamingBackend

class MyStreamingBackend(StreamingBackend):
    """Custom streaming backend with extension filtering."""

    _backend_type = 'my_stream'
    VIEWER_TYPE = 'myviewer'
    SHM_PREFIX = 'myviewer_'

    # Declare which extensions this backend can stream
    SUPPORTED_EXTENSIONS = {
        '.tif', '.tiff', '.png', '.jpg', '.jpeg',
        '.roi.zip',  # Compound extensions work too
    }

    def save_batch(self, data_list, file_paths, **kwargs):
        """Stream data, automatically filtering unsupported files."""
        # Filter to only supported file types
        data_list, file_paths, skipped = self._filter_streamable_files(
            data_list, file_paths
        )

        if not data_list:
            return

        # Now stream only the supported files...
        for data, path in zip(data_list, file_paths):
            self._stream_data(data, path, **kwargs)
