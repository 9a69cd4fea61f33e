"""Nothing of one machine, and no address of a registry, stands in the project."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REGISTRY = re.compile(r"https?://[\w.-]*(pypi\.org|pythonhosted|npmjs|yarnpkg)[\w./-]*")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def test_locks_record_no_addresses():
    for file in tracked():
        if file.parent.name == "locks" or file.name == "package-lock.json":
            text = file.read_text()
            assert '"resolved"' not in text, file
            assert not REGISTRY.search(text), file
            assert "--index-url" not in text, file


def test_no_path_of_one_machine():
    home = re.compile(r"/(root|home/\w+)/\.?\w")
    wrong = []
    for file in tracked():
        if file.suffix in (".py", ".ts", ".tsx", ".ipynb", ".md", ".yaml", ".toml") and "tests" not in file.parts:
            wrong += [f"{file}: {m.group()}" for m in home.finditer(file.read_text())]
    assert not wrong
