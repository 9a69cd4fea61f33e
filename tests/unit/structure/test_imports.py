"""Imports point one way: the hub and Lab halves may use the magics, never the other way round."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {
    "themisto": ROOT / "magics" / "themisto",
    "themisto_lab": ROOT / "lab_extension" / "themisto_lab",
    "themisto_hub": ROOT / "hub_config" / "themisto_hub",
}
MAY_IMPORT = {"themisto": set(), "themisto_lab": {"themisto"}, "themisto_hub": {"themisto"}}
KERNEL_STRANGERS = {"tornado", "jupyterhub", "fastapi", "starlette", "sqlalchemy", "uvicorn"}
NO_ADAPTERS = {"IPython", "tornado", "fastapi", "argparse", "ipywidgets"}


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def files(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package):
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}
    wrong = {f"{f.name}: {m}" for f in files(package) for m in imported(f) if m.partition(".")[0] in forbidden}
    assert not wrong


def test_kernel_side_knows_no_server_framework():
    wrong = {
        f"{f.name}: {m}" for f in files("themisto") for m in imported(f) if m.partition(".")[0] in KERNEL_STRANGERS
    }
    assert not wrong


@pytest.mark.parametrize("name", ["service.py", "models.py"])
def test_services_and_models_know_no_adapter(name):
    wrong = {
        f"{f.relative_to(ROOT)}: {m}"
        for package in PACKAGES
        for f in files(package)
        if f.name == name
        for m in imported(f)
        if m.partition(".")[0] in NO_ADAPTERS
    }
    assert not wrong


def test_models_do_no_io():
    allowed = {
        "pydantic",
        "themisto",
        "collections",
        "typing",
        "datetime",
        "decimal",
        "hashlib",
        "json",
        "re",
        "zoneinfo",
    }
    allowed |= {"__future__", "enum", "math", "functools", "types", "typing_extensions", "annotated_types", "croniter"}
    wrong = {
        f"{f.relative_to(ROOT)}: {m}"
        for f in files("themisto")
        if f.name == "models.py"
        for m in imported(f)
        if m.partition(".")[0] not in allowed
    }
    assert not wrong


def test_every_module_says_why_it_exists_and_names_its_public_surface():
    wrong = []
    for package in PACKAGES:
        for file in files(package):
            if "migrations" in file.parts or file.name in ("__init__.py", "__main__.py"):
                continue
            if "_pb2" in file.stem:  # generated
                continue
            tree = ast.parse(file.read_text())
            if not ast.get_docstring(tree):
                wrong.append(f"{file.relative_to(ROOT)}: no docstring")
            names = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
            if "__all__" not in names:
                wrong.append(f"{file.relative_to(ROOT)}: no __all__")
    assert not wrong


def test_loading_the_extension_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "before = set(sys.modules)\n"
        "shell.run_line_magic('load_ext', 'themisto')\n"
        "heavy = {'mlflow', 'pandas', 'numpy', 'duckdb', 'pyarrow', 'kfp', 'httpx', 'pydantic', 'sklearn', 'onnx'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
