"""Which files of stages/ and landfold/ a stage reaches through its imports."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("landfold", "stages")


def file_of(module: str) -> Path | None:
    """The file of a module of ours, such as landfold.sensors; None for what is not one."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def name_of(path: Path) -> str:
    """The module of a file of ours."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path, *, inside_functions: bool = True) -> Iterator[str]:
    """Every dotted name that a file imports: for ``from a import b`` both ``a`` and ``a.b``."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: a relative import; write the whole name")
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend(ast.iter_child_nodes(node))


def imported_modules(path: Path, *, inside_functions: bool = True) -> set[str]:
    """Modules of ours that a file imports, without itself."""
    names = set(imported_names(path, inside_functions=inside_functions))
    ours = {name for name in names if name.split(".")[0] in PACKAGES and file_of(name)}
    return ours - {name_of(path)}


def closure(stage: str, without: Collection[str] = ()) -> list[str]:
    """Files that ``python -m stages.STAGE`` can import, with the packages around them, sorted.

    ``without``: rooms that are passed over with all that only they import, and then the package ``stages`` itself too.
    """
    reached: set[str] = set()
    pending = [f"stages.{stage}"]
    while pending:
        module = pending.pop()
        room = module.split(".")[1] if module.startswith("landfold.") else ""
        if module in reached or room in without or (without and module == "stages"):
            continue
        reached.add(module)
        parts = module.split(".")
        pending.extend(".".join(parts[:i]) for i in range(1, len(parts)))  # Python runs these first
        pending.extend(imported_modules(file_of(module)))
    return sorted(file_of(module).relative_to(ROOT).as_posix() for module in reached)


def stage_names() -> list[str]:
    """The scripts of stages/."""
    return sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
