"""What a user got wrong is a UserError everywhere, and nothing else becomes one line."""

import ast
from pathlib import Path

import sharedlayers_dist

PACKAGE = Path(sharedlayers_dist.__file__).parent
MEANT_FOR_CALLERS = {
    ("data/making/text_files.py", "_to_object"): "its caller names the file and the line",
    ("data/items/characters.py", "decode_text"): "its caller names the row",
    ("options.py", "_read_object"): "of cyclopts, which names the option and makes one line of it",
    ("storage/uri.py", "require_plain_name"): "its caller names the manifest",
    ("training/data_sources.py", "_parse_part"): "caught below in the same function",
    ("ray/backend.py", "on_start"): "of Ray Train, when this package calls it wrongly",
}
"""Where Python's own errors are raised, and why no user meets them."""


def raised_in(path):
    """(function, name of the exception) for each `raise` in a file."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                    yield function.name, ast.unparse(made)


def test_what_a_user_gave_is_refused_with_a_user_error():
    found = {
        (str(path.relative_to(PACKAGE)), function)
        for path in PACKAGE.rglob("*.py")
        for function, name in raised_in(path)
        if name in ("ValueError", "TypeError", "KeyError", "IndexError")
    }
    assert found == set(MEANT_FOR_CALLERS)
