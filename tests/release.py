"""Whether this tree makes a release: ``make release-check``.

Builds sdist and wheel from a clean copy of what is committed, twice, and compares them byte for byte; looks into them;
installs each into an empty environment far from the tree, and plays the demo there. It needs a package index.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

TREE = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
NEEDED = (
    "batch_cancel/py.typed",
    "batch_cancel/report/templates/report.html",
    "batch_cancel/report/templates/report.css",
    "batch_cancel/report/templates/report.js",
    "batch_cancel/simulator/drills/demo.yaml",
    "batch_cancel/lambda_handler/__init__.py",
)
SECONDS = 600
LAMBDA_PLATFORM = "aarch64-manylinux_2_28"
LAMBDA_PYTHON = "3.13"
"""As configs/deploy/organization.yaml has them."""


class NotFit(Exception):
    """Why this is no release."""


def main() -> int:
    """Check, and say step by step what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("--keep", type=Path, help="leave the artifacts there")
    parser.add_argument("--no-demo", action="store_true", help="only build and compare")
    parser.add_argument("--lambda", dest="function", type=Path, metavar="ZIP", help="only make the function's package")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batch-cancel-release-") as folder:
        try:
            if arguments.function:
                package_function(Path(folder), arguments.function)
                return 0
            _check(Path(folder), keep=arguments.keep, demo=not arguments.no_demo)
        except NotFit as reason:
            _say(f"NOT fit for release: {reason}")
            return 1
    _say("fit for release")
    return 0


def _check(folder: Path, *, keep: Path | None, demo: bool) -> None:
    version = version_of(TREE / "batch_cancel" / "version.py")
    _say(f"version {version}")
    if f"## {version}" not in (TREE / "CHANGELOG.md").read_text() and "## Unreleased" not in (
        TREE / "CHANGELOG.md"
    ).read_text(encoding="utf-8"):
        raise NotFit(f"CHANGELOG.md tells neither of {version} nor of what is unreleased")
    _run(["git", "clone", "--quiet", str(TREE), str(folder / "clone")])
    epoch = _run(["git", "-C", str(TREE), "log", "-1", "--format=%ct"]).strip()
    first, second = (build(folder / "clone", folder / name, epoch) for name in ("one", "two"))
    for one, other in zip(first, second, strict=True):
        if digest(one) != digest(other):
            raise NotFit(f"{one.name} differs from build to build")
        _say(f"{one.name}  {digest(one)}")
    sdist, wheel = sorted(first, key=lambda path: path.suffix == ".whl")
    check_contents(wheel, sdist, version)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for artifact in first:
            (keep / artifact.name).write_bytes(artifact.read_bytes())
    if demo:
        for artifact in (wheel, sdist):
            _try_out(artifact, folder / f"try-{artifact.suffix[1:]}", version)


def version_of(path: Path) -> str:
    """The version, from the one place where it stands."""
    found = re.search(r'__version__ = "([^"]+)"', path.read_text())
    if found is None:
        raise NotFit(f"{path} has no version")
    return found[1]


def build(tree: Path, out: Path, epoch: str) -> list[Path]:
    """Sdist and wheel, at a given time."""
    _run([str(UV), "build", "--quiet", "--out-dir", str(out), str(tree)], SOURCE_DATE_EPOCH=epoch)
    return sorted(path for path in out.iterdir() if path.name.endswith((".whl", ".tar.gz")))


def check_contents(wheel: Path, sdist: Path, version: str) -> None:
    """What has to be in them is, and nothing that has no business there."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"batch_cancel-{version}.dist-info/METADATA").decode()
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise NotFit(f"{wheel.name} lacks {', '.join(missing)}")
    others = [name for name in names if not name.startswith(("batch_cancel/", f"batch_cancel-{version}.dist-info/"))]
    if others:
        raise NotFit(f"{wheel.name} holds {', '.join(others[:5])}")
    if f"\nVersion: {version}\n" not in metadata:
        raise NotFit(f"{wheel.name} is not of version {version}")
    with tarfile.open(sdist) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    for name in (*NEEDED, "configs/deploy/organization.yaml", "CHANGELOG.md", "LICENSE", "tests/release.py"):
        if name not in packed:
            raise NotFit(f"{sdist.name} lacks {name}")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _try_out(artifact: Path, folder: Path, version: str) -> None:
    """An empty environment, the artifact in it, and the demo; far from the tree, so that nothing is found by chance."""
    folder.mkdir()
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    python = folder / "venv" / "bin" / "python"
    constraints = str(TREE / "constraints.txt")
    _run([str(UV), "pip", "install", "--quiet", "--python", str(python), "--constraint", constraints, str(artifact)])
    program = str(folder / "venv" / "bin" / "batch-cancel")
    said = _run([program, "--version"], cwd=folder)
    if version not in said:
        raise NotFit(f"{artifact.name} says {said.strip()}")
    _run([program, "demo", "--out", str(folder / "demo")], cwd=folder)
    if not (folder / "demo" / "report.html").is_file():
        raise NotFit(f"{artifact.name}: the demo left no report")
    _say(f"{artifact.name}: installs into an empty environment, and plays the demo there")


def package_function(folder: Path, target: Path) -> None:
    """The Lambda function's package: wheels for its platform, unpacked, in a zip that is the same each time."""
    epoch = _run(["git", "-C", str(TREE), "log", "-1", "--format=%ct"]).strip()
    wheel = next(path for path in build(TREE, folder / "dist", epoch) if path.suffix == ".whl")
    _run(
        [
            *(str(UV), "pip", "install", "--quiet", "--target", str(folder / "package"), "--only-binary", ":all:"),
            *("--python-platform", LAMBDA_PLATFORM, "--python-version", LAMBDA_PYTHON),
            *("--constraint", str(TREE / "constraints.txt"), str(wheel)),
        ]
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "package").rglob("*")):
            inside = path.relative_to(folder / "package")
            if path.is_file() and inside.parts[0] not in ("bin", ".lock") and path.suffix != ".pyc":
                entry = zipfile.ZipInfo(str(inside))  # of 1980, like every other
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, path.read_bytes())
    _say(f"{target}  {target.stat().st_size / 1e6:.1f} MB  {digest(target)}")


def _run(command: Sequence[str], *, cwd: Path | None = None, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    if done.returncode:
        raise NotFit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
