"""What several modules of these tests need."""

import pytest

from tests.unit.transfer import estate


@pytest.fixture
def striped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several connections, and a disk that is small."""
    estate.narrow_stripes(monkeypatch)
