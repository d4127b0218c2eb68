"""What holds for the repository as a whole: its lock, its layers, the wheel's content, the documentation's links."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK_LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
COMPARED_LINES = (ROOT / "tests" / "independent" / "requirements.lock").read_text(encoding="utf-8").splitlines()
LOCKED = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LOCK_LINES}
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def requirements() -> list[Requirement]:
    """What a developer's environment asks for directly: the package, its `dev` extra and its build."""
    project = PROJECT["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["dev"], *PROJECT["build-system"]["requires"]]
    return [Requirement(text) for text in dict.fromkeys(stated)]


@pytest.mark.parametrize("lines", [LOCK_LINES, COMPARED_LINES], ids=["requirements", "independent"])
def test_lock_holds_names_and_versions_only(lines: list[str]) -> None:
    odd = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line)]
    assert not odd, f"lines that are not name==version: {odd}"


@pytest.mark.parametrize("lines", [LOCK_LINES, COMPARED_LINES], ids=["requirements", "independent"])
def test_lock_names_each_package_once_and_in_order(lines: list[str]) -> None:
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(set(names))
    assert "hcs-nuclei" not in names


def test_what_is_compared_with_is_not_installed_twice() -> None:
    assert not {canonicalize_name(line.partition("==")[0]) for line in COMPARED_LINES} & LOCKED.keys()


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_lock_satisfies(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert name in LOCKED, f"{requirement} is not locked; run `make lock`"
    assert requirement.specifier.contains(LOCKED[name]), f"{requirement} against {LOCKED[name]}; run `make lock`"


def test_one_tensorflow_is_locked() -> None:
    # tensorflow and tensorflow-cpu install the same files over each other, and pip does not notice.
    assert [name for name in LOCKED if name in {"tensorflow", "tensorflow-cpu", "tensorflow-intel"}] == ["tensorflow"]


def test_gpu_extra_asks_for_the_tensorflow_that_the_package_asks_for() -> None:
    (gpu,) = (Requirement(text) for text in PROJECT["project"]["optional-dependencies"]["gpu"])
    (plain,) = (r for r in requirements() if r.name == gpu.name)
    assert gpu.extras == {"and-cuda"}
    assert gpu.specifier == plain.specifier


def test_every_module_has_a_layer() -> None:
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    layered = {name.strip(" ()") for layer in contract["layers"] for name in layer.split("|")}
    packages = {path.parent.name for path in (ROOT / "hcs_nuclei").glob("*/*.py")}
    modules = {path.stem for path in (ROOT / "hcs_nuclei").glob("[!_]*.py")}
    assert {f"hcs_nuclei.{name}" for name in packages | modules} <= layered


def test_every_directory_of_modules_is_a_package() -> None:
    # Without an __init__.py it is left out of the wheel and of the checks of layers.
    holding = {path.parent for package in ("hcs_nuclei", "flows") for path in (ROOT / package).rglob("*.py")}
    assert not [str(folder.relative_to(ROOT)) for folder in sorted(holding) if not (folder / "__init__.py").exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.partition("#")[0] for target in targets if not target.startswith(("http", "mailto:", "#"))]
    assert not [target for target in local if not (document.parent / target).exists()]


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / link).resolve() for link in links if (page.parent / link).is_file()]
    assert not set(ROOT.glob("docs/**/*.md")) - reached


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {"demo", "test"} <= named
    assert not named - targets


def test_reference_pages_are_those_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [
        name for name, page in generate.PAGES.items() if (generate.FOLDER / name).read_text(encoding="utf-8") != page()
    ]
    assert not stale, "run `make docs`"


@pytest.mark.slow
def test_wheel_carries_what_is_needed_at_run_time(tmp_path: Path) -> None:
    # From a copy, so that no build folder is left in the checkout and none that lies there is taken up.
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    source = tmp_path / "source"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    wanted = {
        str(path.relative_to(source))
        for package in ("hcs_nuclei", "flows")
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert not wanted - carried
    assert not any(name.startswith(("tests/", "docs/")) for name in carried)
