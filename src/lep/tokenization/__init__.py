"""Learning and comparing vocabularies."""
