"""What `make bench` measures beyond `scopecast bench`: other libraries, windows, acquisitions, first frames."""
