"""One hub without isolation and one with, once a session."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.hub.house import House, open_house


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Without isolation, as an ordinary user would run it."""
    with open_house(tmp_path_factory.mktemp("hub"), isolated=False) as house:
        yield house


@pytest.fixture(scope="package")
def walled_hub() -> Iterator[House]:
    """With a uid for each person. Needs root. Not below /tmp, which every server has of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = Path(tempfile.mkdtemp(prefix="themisto-walled-", dir="/var/tmp"))
    try:
        folder.chmod(0o711)
        with open_house(folder, isolated=True) as house:
            yield house
    finally:
        shutil.rmtree(folder, ignore_errors=True)
