"""One generation as a process of its own, to be killed: makers.py FOLDER COUNT."""

import sys
from pathlib import Path

from medray import api


def main(folder: Path, count: int) -> None:
    asked = {"count": count, "filters": False, "formats": ("csv",)}
    package, tox = str(folder / "package"), str(folder / "tox")
    summary = api.generate(package, str(folder / "out"), toxicity=[tox], **asked)
    sys.stdout.write(summary.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
