"""A Host in memory: files in a dictionary, commands answered from a table.

The handful of programs that the contract suite calls (sh -c with a fixed vocabulary excepted) is
played here in Python, so that stages under test meet the same answers as from a real machine.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.errors import NoAnswer, OutsideFailed
from core.ports import Completed

Answer = Callable[[tuple[str, ...], bytes], Completed]


def answer(stdout: str | bytes = "", code: int = 0, stderr: str = "") -> Answer:
    """The same answer, whatever is asked."""
    data = stdout.encode() if isinstance(stdout, str) else stdout
    return lambda argv, _: Completed(argv, code, data, stderr.encode())


class FakeChannel:
    """A command that already ended: its output can be read, what is written is kept."""

    def __init__(self, run: Callable[[bytes], Completed]) -> None:
        self._run = run
        self._done: Completed | None = None
        channel = self

        class Input(io.BytesIO):
            def close(self) -> None:
                if not self.closed:
                    channel._finish(self.getvalue())
                super().close()

        self._stdin = Input()
        self._stdout = io.BytesIO()

    def _finish(self, data: bytes) -> Completed:
        if self._done is None:
            self._done = self._run(data)
            self._stdout = io.BytesIO(self._done.stdout)
        return self._done

    @property
    def stdin(self) -> io.BytesIO:
        return self._stdin

    @property
    def stdout(self) -> io.BytesIO:
        self._stdin.close()
        return self._stdout

    def wait(self, timeout: float) -> int:
        self._stdin.close()
        assert self._done is not None
        if self._done.code == HANGS:
            raise OutsideFailed(f"did not end in {timeout:.0f} s")
        return self._done.code

    def errors(self) -> str:
        return self._done.stderr.decode() if self._done else ""

    def kill(self) -> None:
        """It has ended."""


HANGS = -999  # the code of an answer that never comes
FLOODS = -998  # the code of an answer without end


class FakeHost:
    """core.ports.Host from ``files`` and ``answers`` (looked up by argv, then by program)."""

    def __init__(
        self,
        name: str = "fake",
        *,
        files: dict[str, bytes] | None = None,
        answers: dict[str | tuple[str, ...], Answer] | None = None,
        dead: bool = False,
    ) -> None:
        self._name = name
        self.files = dict(files or {})
        self.answers = dict(answers or {})
        self.dead = dead
        self.asked: list[tuple[str, ...]] = []
        self.closed = False

    @property
    def name(self) -> str:
        return self._name

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        command = tuple(argv)
        self.asked.append(command)
        if self.dead:
            raise NoAnswer("no connection", where=self._name)
        done = self._answer(command, stdin)
        if done.code == HANGS:
            raise OutsideFailed(f"did not end in {timeout:.0f} s", where=self._name)
        if done.code == FLOODS:
            raise OutsideFailed("more than 67108864 bytes of output", where=self._name)
        return done

    @contextmanager
    def stream(self, argv: Sequence[str]) -> Iterator[FakeChannel]:
        command = tuple(argv)
        self.asked.append(command)
        if self.dead:
            raise NoAnswer("no connection", where=self._name)
        yield FakeChannel(lambda data: self._answer(command, data))

    def read(self, path: str, limit: int = 16 * 1024 * 1024) -> bytes:
        if self.dead:
            raise NoAnswer("no connection", where=self._name)
        if path not in self.files:
            raise OutsideFailed(f"can't read {path}: no such file", where=self._name)
        if len(self.files[path]) > limit:
            raise OutsideFailed(f"{path} is longer than {limit} bytes", where=self._name)
        return self.files[path]

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        if self.dead:
            raise NoAnswer("no connection", where=self._name)
        if "/no-such-directory/" in path:
            raise OutsideFailed(f"can't write {path}: no such directory", where=self._name)
        self.files[path] = bytes(data)

    def upload(self, source: Path, path: str) -> None:
        self.write(path, source.read_bytes())

    def close(self) -> None:
        self.closed = True

    def _answer(self, argv: tuple[str, ...], stdin: bytes) -> Completed:
        play = self.answers.get(argv) or self.answers.get(argv[0])
        if play is not None:
            return play(argv, stdin)
        if argv[0] == "cat" and len(argv) == 1:
            return Completed(argv, 0, stdin, b"")
        if argv[0] == "cat":
            return self._cat(argv)
        return Completed(argv, 127, b"", f"{argv[0]}: not found".encode())

    def _cat(self, argv: tuple[str, ...]) -> Completed:
        absent = [path for path in argv[1:] if path not in self.files]
        data = b"".join(self.files.get(path, b"") for path in argv[1:])
        error = "".join(f"cat: {path}: No such file or directory\n" for path in absent)
        return Completed(argv, 1 if absent else 0, data, error.encode())
