"""Manifests → facts → figures → one self-contained page. Nothing here measures; everything here only tells."""
