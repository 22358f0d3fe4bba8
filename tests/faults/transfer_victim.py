"""The controller of a transfer as a process of its own, to be killed: root, rate, the folder of an
sshd or -, then the passes."""

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from adapters.ssh import Login, SshHost
from core.ports import Channel
from migrate import transfer
from migrate.transfer import Options
from tests.unit.transfer import estate


class Source(estate.Source):
    """The estate's source, its agent behind an sshd."""

    def __init__(self, root: Path, far: SshHost) -> None:
        super().__init__(root)
        self.far = far

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        return self.far.stream(argv)


def login(folder: Path) -> Login:
    """The way into the sshd of a test, as its folder tells."""
    told = json.loads((folder / "login.json").read_text())
    return Login(
        address="127.0.0.1",
        port=told["port"],
        user=told["user"],
        key=folder / "id_rsa",
        known_hosts=folder / "known_hosts",
    )


def main() -> None:
    root, rate, sshd = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    old = estate.make(root, root / "disk")
    source, target = old.source, old.target
    if sshd != "-":
        source = Source(root, SshHost("old", login(Path(sshd))))
        target = SshHost("hv1", login(Path(sshd)))  # type: ignore[assignment]
    options = Options(rate=rate)
    for kind in sys.argv[4:]:
        if kind == "final":
            transfer.finish(source, target, old.plan, old.folder, options)
        else:
            transfer.copy(source, target, old.plan, old.folder, kind, options)


if __name__ == "__main__":
    main()
