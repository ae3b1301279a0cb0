"""report stub (written next)."""
from pathlib import Path
def write_report(path: Path) -> None:
    """Nothing yet."""
