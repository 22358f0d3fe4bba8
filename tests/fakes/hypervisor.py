"""A Hypervisor in memory."""

from collections.abc import Mapping
from xml.etree import ElementTree

from core.errors import OutsideFailed
from core.ports import Hypervisor

CAPABILITIES = """<capabilities><guest><os_type>hvm</os_type><arch name='x86_64'>
<emulator>/usr/bin/fake</emulator><machine>pc</machine><domain type='qemu'/></arch></guest>
</capabilities>"""


class FakeHypervisor:
    """core.ports.Hypervisor."""

    def __init__(self, uri: str = "fake:///") -> None:
        self._uri = uri
        self._xml: dict[str, str] = {}
        self._on: set[str] = set()
        self.autostarted: set[str] = set()

    @property
    def uri(self) -> str:
        return self._uri

    def capabilities(self) -> str:
        return CAPABILITIES

    def domains(self) -> Mapping[str, str]:
        return {name: "running" if name in self._on else "shut off" for name in self._xml}

    def define(self, xml: str) -> None:
        try:
            name = ElementTree.fromstring(xml).findtext("name")
        except ElementTree.ParseError as fault:
            raise OutsideFailed(f"defining the domain: {fault}") from fault
        self._xml[name or ""] = xml

    def xml(self, name: str) -> str:
        self._known(name)
        return self._xml[name]

    def start(self, name: str) -> None:
        self._known(name)
        self._on.add(name)

    def destroy(self, name: str) -> None:
        self._on.discard(name)

    def undefine(self, name: str) -> None:
        self._xml.pop(name, None)

    def autostart(self, name: str) -> None:
        self._known(name)
        self.autostarted.add(name)

    def migrate(self, name: str, target: Hypervisor) -> None:
        target.define(self.xml(name))
        target.start(name)
        self.destroy(name)
        self.undefine(name)

    def pools(self) -> Mapping[str, str]:
        return {"default": "/pool"}

    def close(self) -> None:
        """Nothing is open."""

    def _known(self, name: str) -> None:
        if name not in self._xml:
            raise OutsideFailed(f"there is no domain {name}", where=self._uri)
