"""The controller of a transfer as a process of its own, to be killed: root, then the passes."""

import sys
from pathlib import Path

from migrate import transfer
from migrate.transfer import Options
from tests.unit.transfer import estate


def main() -> None:
    root, rate = Path(sys.argv[1]), int(sys.argv[2])
    old = estate.make(root, root / "disk")
    options = Options(rate=rate)
    for kind in sys.argv[3:]:
        if kind == "final":
            transfer.finish(old.source, old.target, old.plan, old.folder, options)
        else:
            transfer.copy(old.source, old.target, old.plan, old.folder, kind, options)


if __name__ == "__main__":
    main()
