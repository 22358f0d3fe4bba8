"""The bundle of this repository."""

from pathlib import Path

from deploy.bundle import open_bundle

CONTENT = open_bundle(Path.cwd(), "libvirt-el6")
