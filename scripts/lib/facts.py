# SPDX-License-Identifier: MIT
"""Facts of a text of authorizer.py for its auditor, from the syntax tree: the text never runs.

They help to read an honest file. A hostile one can hide from any such list, so compare it first.
"""

from __future__ import annotations

import ast
import hashlib
import textwrap
import warnings
from typing import Any, NamedTuple

from lib.copies import CopyError, version_of

# What writes, starts or evaluates something, as a name or as a member of anything but ``re``.
RISKY = {
    *("__builtins__", "__import__", "breakpoint", "builtins", "compile", "ctypes", "eval", "exec"),
    *("globals", "importlib", "input", "locals", "open", "pickle", "print", "setattr"),
    *("subprocess", "system", "write", "write_bytes", "write_text", "writelines"),
    *("accept", "bind", "listen"),
}
HARMLESS = {  # any other member of these modules is risky too
    "os": {"environ", "environb", "getenv", "urandom"},
    "socket": {"AF_INET", "SOCK_STREAM", "create_connection", "socket"},
}
CONNECTING = {"connect", "connect_ex", "create_connection", "sendmsg", "sendto", "urlopen"}
ENVIRONMENTS = {"env", "environ", "os.environ", "os.environb"}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


class Facts(NamedTuple):
    """The members of the ``--json`` object. A place is ``function`` and ``line``."""

    version: str | None
    sha256: str
    lines: int
    bytes: int
    imports: dict[str, list[str]]  # by module, what is used of it
    variables: list[str]  # of the environment, that are read; in () if an expression names one
    network: list[dict[str, Any]]  # call, address, port (or its variable) and place
    writes_or_runs: list[dict[str, Any]]  # call and place
    functions: list[dict[str, Any]]  # lines and place


def facts_of(text: str) -> Facts:
    """The facts of a Python text. Raises CopyError if it does not parse."""
    data = text.encode("utf-8", "surrogatepass")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a hostile text, to the terminal
            found = _Found(ast.parse(text))
    except SyntaxError as error:
        raise CopyError(f"it is not Python: {error.msg}, line {error.lineno or 1}") from None
    except (ValueError, RecursionError, MemoryError):
        raise CopyError("it is not Python, or it is nested too deeply") from None
    return Facts(
        version_of(text),
        hashlib.sha256(data).hexdigest(),
        len(text.splitlines()),
        len(data),
        {module: sorted(found.imports[module]) for module in sorted(found.imports)},
        sorted(found.variables),
        *(sorted(it, key=lambda fact: fact["line"]) for it in found.placed),
    )


class _Found:
    """What is in a tree."""

    def __init__(self, tree: ast.Module) -> None:
        self.imports: dict[str, set[str]] = {}
        self.variables: set[str] = set()
        self.placed: tuple[list[dict[str, Any]], ...] = ([], [], [])  # the last three of Facts
        network, risky, functions = self.placed
        nodes = list(ast.walk(tree))
        self.parents = {inner: node for node in nodes for inner in ast.iter_child_nodes(node)}
        self.values: dict[str, list[ast.expr]] = {}  # by variable or attribute
        self.readers = {"getenv"}  # functions that take the name of an environment variable
        modules: dict[str, str] = {}  # by the name that they have in the file
        for node in nodes:
            if isinstance(node, ast.Import):
                modules |= {it.asname or it.name.split(".")[0]: it.name for it in node.names}
                self.imports |= {it.name: set() for it in node.names}
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self.values.setdefault(last_of(target), []).append(node.value)
            elif isinstance(node, FUNCTION):
                functions.append({"lines": lines_of(node), **self.place(node, node.name)})
                if "Settings" in [it.name for it in self.around(node)]:
                    self.readers |= {node.name} - {"__init__"}
        for node in nodes:
            parent = self.parents.get(node)
            if isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for it in node.names:
                    self.imports.setdefault(module, set()).add(it.name)
                    if it.name in RISKY or it.name not in HARMLESS.get(module, {it.name}):
                        risky.append({"call": f"{module}.{it.name}", **self.place(node)})
            elif isinstance(node, (ast.Name, ast.Attribute)):
                name, text = last_of(node), ast.unparse(node)
                module = modules.get(getattr(getattr(node, "value", None), "id", ""), "")
                if module:
                    self.imports[module].add(name)
                elif text in modules and not isinstance(parent, ast.Attribute):
                    self.imports[modules[text]].add("(itself)")
                if (name in RISKY and module != "re") or name not in HARMLESS.get(module, {name}):
                    risky.append({"call": text, **self.place(node)})
                if text in ENVIRONMENTS:
                    self.read_from(node)
            elif isinstance(node, ast.Call):
                name = last_of(node.func)
                first = [*node.args, *(it.value for it in node.keywords), None][0]
                if first and name in self.readers:
                    self.read(first)
                if first and name in CONNECTING:
                    parts = first.elts if isinstance(first, ast.Tuple) else [first]
                    address, port, *_ = [*map(self.shown, parts), "", ""]
                    fact = {"call": ast.unparse(node.func), "address": address, "port": port}
                    network.append({**fact, **self.place(node)})

    def around(self, node: ast.AST) -> list[Any]:
        """The classes and functions around a node, from the outermost."""
        parent = self.parents.get(node)
        this = [parent] if isinstance(parent, (*FUNCTION, ast.ClassDef)) else []
        return self.around(parent) + this if parent else []

    def place(self, node: Any, *name: str) -> dict[str, Any]:
        names = [it.name for it in self.around(node)]
        return {"function": ".".join([*names, *name]), "line": node.lineno}

    def read_from(self, environment: ast.expr) -> None:
        """Note what is read where the file uses a mapping of the environment."""
        use = self.parents[environment]
        call = self.parents.get(use)
        if isinstance(use, ast.Subscript):
            self.read(use.slice)
        elif getattr(use, "attr", "") == "get" and isinstance(call, ast.Call) and call.args:
            self.read(call.args[0])
        elif not isinstance(use, ast.Call) or last_of(use.func) != "Settings":  # it reads env
            self.variables.add(f"({ast.unparse(environment)})")

    def read(self, name: ast.expr) -> None:
        """Note the variable that an expression names."""
        values = [name]
        if isinstance(name, ast.Name):
            values = self.values.get(name.id, values)
            readers = [it for it in self.around(name)[-1:] if it.name in self.readers]
            parameters = [getattr(it, "arg", "") for reader in readers for it in ast.walk(reader)]
            if name.id in parameters:
                return  # each call of that function is noted
        for it in values:
            for part in (it.body, it.orelse) if isinstance(it, ast.IfExp) else (it,):
                self.variables.add(self.shown(part))

    def shown(self, part: ast.expr) -> str:
        """A literal, the environment variable of a setting, or the expression in ()."""
        values = self.values.get(last_of(part), []) if isinstance(part, ast.Attribute) else []
        calls = [it for it in values if isinstance(it, ast.Call) and it.args]
        variables = [it.args[0] for it in calls if last_of(it.func) in self.readers]
        known = variables[0] if len(values) == len(variables) == 1 else part
        return str(known.value) if isinstance(known, ast.Constant) else f"({ast.unparse(part)})"


def last_of(node: ast.expr) -> str:
    """``c`` of ``a.b.c``; "" if it has no name."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def table(path: str, facts: Facts) -> str:
    """The facts for people, at most 100 columns wide."""

    def placed(text: str, fact: dict[str, Any]) -> str:
        return f"{text} ({fact['function'] or 'no function'}, line {fact['line']})"

    sections = {
        "file": [path],
        "version": [facts.version or "not stated"],
        "SHA-256": [facts.sha256],
        "size": [f"{facts.lines} lines, {facts.bytes} bytes"],
        "imports": [f"{name:16} {', '.join(used)}" for name, used in facts.imports.items()],
        "variables": facts.variables,
        "network": [
            placed(f"{it['call']} to {it['address']}{it['port'] and ', port '}{it['port']}", it)
            for it in facts.network
        ],
        "writes or runs": [placed(it["call"], it) for it in facts.writes_or_runs],
        "functions": [f"{it['lines']:4} lines  {it['function']}" for it in facts.functions],
    }
    lines: list[str] = []
    for title, items in sections.items():
        indent = " " * (17 if title == "imports" else 4)
        texts = [
            line
            for it in items or ["none"]
            for line in textwrap.wrap(it, 83, subsequent_indent=indent)
        ]
        lines += [f"{head:16} {line}" for head, line in zip([title, *[""] * len(texts)], texts)]
    return "\n".join(lines)
