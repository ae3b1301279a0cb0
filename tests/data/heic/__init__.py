"""HEIC files and the program that wrote them."""
