"""Measurements of speed against other libraries: always both sides in turn, never an absolute claim."""
