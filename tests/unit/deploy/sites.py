"""The site that the tests of deploy begin with, and how to say what differs."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from core.documents import parse
from deploy.site import Site

CLOUD = Path("tests/golden/inventory/cloud.yml")
Data = dict[str, Any]


def data() -> Data:
    loaded: Data = copy.deepcopy(yaml.safe_load(CLOUD.read_text()))
    return loaded


def site(change: Callable[[Data], object] = lambda _: None) -> Site:
    """The golden site after ``change`` was made to it."""
    changed = data()
    change(changed)
    return parse(yaml.safe_dump(changed).encode(), Site, "cloud.yml")
