"""The rooms, one a file: `run(settings, out)` reads, calls and writes, and returns the room's numbers."""
