SUPPORTED_EXTENSIONS = {
    '.tif', '.tiff', '.png', '.jpg', '.jpeg',
    '.roi.zip',
    '.myformat',  # Add your format
}
