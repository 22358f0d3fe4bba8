"""A replica that is not there: its pool is not mounted, or it is lost."""

from pathlib import Path

import pytest

from core.errors import OutsideFailed
from core.progress import silent
from migrate import proof, transfer
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate


@pytest.fixture
def old(tmp_path: Path) -> Estate:
    return estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))


def test_a_pool_that_is_not_mounted_costs_nothing(old: Estate) -> None:
    transfer.copy(old.source, old.target, old.plan, old.folder)
    pool, away = old.root / "pool", old.root / "away"
    pool.rename(away)
    pool.mkdir()
    (manifest,) = old.folder.glob("disks/*.manifest")
    before = manifest.read_bytes()
    for kind in ("full", "delta"):
        with pytest.raises(OutsideFailed, match=r"part is gone, and nothing was begun") as caught:
            transfer.copy(old.source, old.target, old.plan, old.folder, kind)
    assert f"is {pool} mounted there" in caught.value.hint
    assert not list(pool.iterdir())
    assert manifest.read_bytes() == before
    pool.rmdir()
    away.rename(pool)
    (delta,) = transfer.copy(old.source, old.target, old.plan, old.folder, "delta")
    assert delta.sent == 0
    transfer.finish(old.source, old.target, old.plan, old.folder)
    (pool / old.replica.name).rename(old.root / "elsewhere")
    with pytest.raises(OutsideFailed, match="is gone"):
        proof.prove(old.source, old.target, old.plan, old.folder, silent)
    assert not list(pool.iterdir())


def test_a_lost_replica_is_copied_anew_when_its_manifest_is_removed(old: Estate) -> None:
    transfer.copy(old.source, old.target, old.plan, old.folder)
    old.replica.with_name(old.replica.name + ".part").unlink()
    (manifest,) = old.folder.glob("disks/*.manifest")
    manifest.unlink()
    manifest.with_suffix(".journal").unlink()
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()
    manifest.unlink()
    with pytest.raises(OutsideFailed, match="nothing can be proved"):
        proof.prove(old.source, old.target, old.plan, old.folder, silent)
    assert not manifest.exists()
