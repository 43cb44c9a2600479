"""The demo: a simulated acquisition, and the screen that it may need."""
