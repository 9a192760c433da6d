"""The tree in docs/architecture.md, one line a file; run as a module, this writes it anew."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/architecture.md"
BEGIN, END = "```\nsharedlayers_dist/\n", "```\n"
# From what imports nothing to what imports all.
ORDER = (
    *(
        "errors",
        "world",
        "options",
        "config",
        "config_file",
        "keras_settings",
        "text_imports",
        "user_code",
        "quiet",
        "storage",
    ),
    *("models", "losses", "data", "dist", "training", "evaluate", "ray", "doctor"),
    *("completion", "cli", "__main__"),
)


def first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path} has no docstring."
    return docstring.splitlines()[0].rstrip(".")


def lines_of(folder: Path, depth: int) -> Iterator[str]:
    rooms = {room.name for room in folder.iterdir() if (room / "__init__.py").exists()}
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    names = sorted(modules) + sorted(rooms)
    if depth == 1:
        names.sort(key=ORDER.index)
    for name in names:
        told = folder / name / "__init__.py" if name in rooms else folder / f"{name}.py"
        entry = "  " * depth + (f"{name}/" if name in rooms else f"{name}.py")
        yield f"{entry:<26} {first_line(told)}\n"
        if name in rooms:
            yield from lines_of(folder / name, depth + 1)


def tree() -> str:
    return BEGIN + "".join(lines_of(ROOT / "sharedlayers_dist", 1)) + END


def split_document() -> tuple[str, str, str]:
    """The document before its tree, the tree, and the rest."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    inside, after = rest.split(END, maxsplit=1)
    return before, BEGIN + inside + END, after


if __name__ == "__main__":
    before, _, after = split_document()
    DOCUMENT.write_text(before + tree() + after, encoding="utf-8")
