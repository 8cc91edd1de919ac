"""Tables of a run, for the terminal and the page."""
