"""The controller of a transfer as a process of its own, to be killed: root, rate, the folder of an
sshd or -, whether the data goes straight through that, then the passes."""

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from adapters.ssh import Login, SshHost
from core.ports import Channel
from core.progress import Event
from migrate import transfer
from migrate.transfer import Options
from tests.contract.sshd import direct
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


def tell(event: Event) -> None:
    """What an engineer would read goes to the log."""
    if event.text:
        sys.stderr.write(f"{event.text}\n")


def main() -> None:
    root, rate, sshd, straight = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    old = estate.make(root, root / "disk")
    source, target = old.source, old.target
    options = Options(rate=rate)
    if straight == "straight":
        way = login(Path(sshd))
        options = replace(options, direct=direct(Path(sshd), way.port, way.user))
        target = estate.Target(Path(sshd).parent)
    elif sshd != "-":
        source = Source(root, SshHost("old", login(Path(sshd))))
        target = SshHost("hv1", login(Path(sshd)))  # type: ignore[assignment]
    for kind in sys.argv[5:]:
        if kind == "final":
            transfer.finish(source, target, old.plan, old.folder, options, tell)
        else:
            transfer.copy(source, target, old.plan, old.folder, kind, options, tell)


if __name__ == "__main__":
    main()
