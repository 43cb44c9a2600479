"""scopecast: the live view of microscopes and imaging pipelines, in napari and Fiji."""

__version__ = "0.1.0"
