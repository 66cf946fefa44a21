"""What holds for the repository as a whole."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

SOURCES = sorted([*(PROJECT / "gan_color").rglob("*.py"), *PROJECT.glob("*.py")])


def test_torch_load_is_always_weights_only():
    for path in [*SOURCES, *PROJECT.glob("benchmarks/*.py"), *PROJECT.glob("docs/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                allowed = ast.unparse(node.func) == "torch.load" and given.get("weights_only") == "True"
                assert allowed, f"{path}:{node.lineno}"


def test_imports_point_down_only():
    checked = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=PROJECT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_readme_shows_the_commands_of_the_makefile_first():
    readme, makefile = (PROJECT / "README.md").read_text(), (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    shown = re.findall(r"\bmake ([a-z-]+)", readme)
    assert shown[:2] == ["demo", "test"]
    assert set(shown) <= targets


def commands(path: Path) -> list[str]:
    """The project's own commands in a page's code blocks, joined over continued lines."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", path.read_text(), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        line.split("#")[0].strip() for line in lines if re.match(r"(python train_|torchrun|gan-color)", line.strip())
    ]


@pytest.mark.parametrize(
    "page", [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_every_option_on_a_page_exists(page):
    from gan_color.__main__ import VERBS

    for line in commands(page):
        words = line.split()
        if words[0] == "torchrun":
            words = ["python", *words[words.index(next(w for w in words if w.startswith("train_"))) :]]
        verb = {"train_pretrain.py": "pretrain", "train_gan.py": "gan"}.get(words[1], words[1])
        known = {field.replace("_", "-") for field in VERBS[verb][0].__dataclass_fields__} | {"config", "print-config"}
        used = {word[2:].split("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{page.name}: {line}"


def test_pages_link_to_files_that_exist():
    for page in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_file_tree_in_the_readme_is_true():
    readme = (PROJECT / "README.md").read_text()
    tree = next(block for block in re.findall(r"^```text\n(.*?)^```", readme, re.M | re.S) if "gan_color/" in block)
    for path in SOURCES:
        if path.name != "__init__.py":
            assert re.search(rf"^\s*(data/)?{re.escape(path.name)}\s", tree, re.M), path


def test_every_dependency_has_a_floor_and_a_reason():
    parser = configparser.ConfigParser(comment_prefixes=())
    parser.read(PROJECT / "setup.cfg")
    lines = parser["options"]["install_requires"].strip().splitlines()
    for reason, requirement in zip(lines[::2], lines[1::2], strict=True):
        assert reason.startswith("# ") and ">=" in requirement, (reason, requirement)
