"""The napari receiver."""
