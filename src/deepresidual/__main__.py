"""``python -m deepresidual`` is the command ``residual``."""

from deepresidual.cli import entry_point

if __name__ == "__main__":
    entry_point()
