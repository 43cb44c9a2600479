"""The receiver in ImageJ or Fiji: live hyperstacks in a real ImageJ, in a process of its own."""
