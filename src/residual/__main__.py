"""``python -m residual`` is the command ``residual``."""

from residual.cli import entry_point

if __name__ == "__main__":
    entry_point()
