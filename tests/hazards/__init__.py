"""Ten thousand results with planted hazards: what must become of each is written down before anything is decided."""
