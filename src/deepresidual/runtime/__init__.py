"""The machine underneath: files, devices and precision, random numbers, signals, the terminal, provenance."""
