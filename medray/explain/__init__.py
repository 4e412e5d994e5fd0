"""Where a model looked, drawn for people."""
