"""What the source says about a public name: its signature, fields, attributes and documented options.

Annotations and defaults are shown as they are written, so they are read from the syntax tree and not from the objects.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin

from dynamodb_outbox.bus_handlers import BusHandlers
from dynamodb_outbox.bus_operations import BusOperations

WIDTH: Final = 100
"""A signature that is longer than this has one parameter on each line."""
_KEPT_DECORATORS: Final = ("property", "classmethod", "staticmethod", "asynccontextmanager")
_OPTION: Final = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a dataclass, a parameter of a function or an attribute of an error."""

    name: str
    annotation: str
    default: str | None = None

    def __str__(self) -> str:
        """Write the field as in a class or in a list of parameters."""
        if not self.annotation:
            return self.name if self.default is None else f"{self.name}={self.default}"
        return f"{self.name}: {self.annotation}" + ("" if self.default is None else f" = {self.default}")


def text_of(node: ast.AST) -> str:
    """Write an expression with double quotes, as the formatter does."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def node_of(thing: Any) -> Any:
    """Parse the definition of a class or function."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))
    return ast.parse(source).body[0]


def docstring_of(thing: Any) -> str:
    """Return the docstring of a class or function, without the section that describes its options."""
    text = inspect.cleandoc(vars(thing)["__doc__"] if inspect.isclass(thing) else thing.__doc__)
    return re.sub(r"\n+(?:Args|Attributes):\n(?:    .*\n?|\n(?=    ))*", "\n\n", text).strip()


def options_of(thing: Any) -> dict[str, str]:
    """Return what the docstring says about each option, from its section `Args:` or `Attributes:`."""
    text = inspect.cleandoc(thing.__doc__ or "")
    section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?|\n(?=    ))*)", text, re.MULTILINE)
    return {name: " ".join(about.split()) for name, about in _OPTION.findall(section[1])} if section else {}


def parameters_of(function: FunctionNode) -> Iterator[Field]:
    """List the parameters of a function; `self` and a bare `*` have an empty annotation."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for argument, default in zip(positional, defaults, strict=True):
        yield _field(argument.arg, argument.annotation, default)
    if arguments.posonlyargs:
        yield Field(name="/", annotation="")
    if arguments.vararg:
        yield _field(f"*{arguments.vararg.arg}", arguments.vararg.annotation, None)
    elif arguments.kwonlyargs:
        yield Field(name="*", annotation="")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _field(argument.arg, argument.annotation, default)
    if arguments.kwarg:
        yield _field(f"**{arguments.kwarg.arg}", arguments.kwarg.annotation, None)


def annotation_of(node: ast.AST | None) -> str:
    """Write an annotation; a name that stands for literals, and for nothing else in the library, is shown as these."""
    return "" if node is None else re.sub(r"\b[A-Z]\w+\b", _literals_of, text_of(node))


def _literals_of(name: re.Match[str]) -> str:
    library = [
        vars(module) for module_name, module in sys.modules.items() if module_name.startswith("dynamodb_outbox.")
    ]
    meanings = [names[name[0]] for names in library if name[0] in names]
    if not meanings or any(get_origin(each) is not Literal or each != meanings[0] for each in meanings):
        return name[0]
    return f"Literal[{', '.join(map(repr, get_args(meanings[0])))}]".replace("'", '"')


def _field(name: str, annotation: ast.expr | None, default: ast.expr | None) -> Field:
    return Field(
        name=name,
        annotation=annotation_of(annotation),
        default=None if default is None else text_of(default),
    )


def signature_of(function: Callable[..., Any], *, name: str | None = None) -> str:
    """Write the signature of a function or method as a stub, with the decorators that say how it is called."""
    node: FunctionNode = node_of(function)
    decorators = [f"@{text_of(each)}\n" for each in node.decorator_list if text_of(each) in _KEPT_DECORATORS]
    prefix = f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}def {name or node.name}("
    suffix = f") -> {text_of(node.returns) if node.returns else 'None'}: ..."
    parameters = [str(field) for field in parameters_of(node)]
    line = f"{prefix}{', '.join(parameters)}{suffix}"
    if len(line) > WIDTH:
        line = f"{prefix}\n" + "".join(f"    {parameter},\n" for parameter in parameters) + suffix
    return "".join(decorators) + line


def members_of(cls: type) -> Iterator[tuple[str, Any]]:
    """List the public methods and properties of a class in the order of the source: name and function."""
    # Two parts of the bus are in files of their own.
    members = dict(vars(cls))
    if issubclass(cls, BusHandlers):
        members = {**vars(BusHandlers), **members}
    if issubclass(cls, BusOperations):
        members |= {name: member for name, member in vars(BusOperations).items() if name not in members}
    for name, member in members.items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


def fields_of(cls: type) -> list[Field]:
    """List the public fields of a class; a default that is made by a function is `...`.

    `_: KW_ONLY` stands before the first field that is keyword only where others are not.
    """
    fields: list[Field] = []
    for statement in node_of(cls).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            keywords = _keywords_of_field(statement.value)
            if statement.target.id.startswith("_"):
                continue
            if "kw_only" in keywords and all(field.name != "_" for field in fields):
                fields.append(Field(name="_", annotation="KW_ONLY"))
            default = "..." if "default_factory" in keywords else keywords.get("default")
            if not keywords and statement.value is not None:
                default = text_of(statement.value)
            annotation = annotation_of(statement.annotation)
            fields.append(Field(name=statement.target.id, annotation=annotation, default=default))
    return fields


def _keywords_of_field(value: ast.expr | None) -> dict[str | None, str]:
    if isinstance(value, ast.Call) and text_of(value.func) == "field":
        return {keyword.arg: text_of(keyword.value) for keyword in value.keywords}
    return {}


def attributes_of(cls: type[BaseException]) -> list[Field]:
    """List the attributes of an error that its class declares or its constructor sets; not those of its bases."""
    constructor = vars(cls).get("__init__")
    found = [*fields_of(cls), *(_set_in(node_of(constructor)) if constructor else ())]
    return list({field.name: field for field in found}.values())


def _set_in(constructor: FunctionNode) -> Iterator[Field]:
    annotations = {field.name: field.annotation for field in parameters_of(constructor)}
    for statement in ast.walk(constructor):
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            if isinstance(target, ast.Attribute) and not target.attr.startswith("_"):
                yield Field(name=target.attr, annotation=_type_of(statement.value, annotations))


def _type_of(value: ast.expr, annotations: dict[str, str]) -> str:
    """Tell the type of what a constructor stores: that of the parameter, or of the copy that it makes."""
    match value:
        case ast.Name(id=name):
            return annotations[name]
        case ast.Call(func=ast.Name(id=("list" | "dict") as kind), args=[argument]):
            argument = argument.values[0] if isinstance(argument, ast.BoolOp) else argument
            members = re.search(r"\[.*\]", annotations[text_of(argument)])
            return f"{kind}{members[0] if members else ''}"
        case ast.Attribute(value=ast.Name(id="event")):
            return "str"
        case _:
            return "int"


def alias_of(name: str) -> tuple[str, str]:
    """Find a type alias by its name: the statement that defines it, and the docstring below the statement."""
    for module_name, module in sorted(sys.modules.items()):
        if module_name.startswith("dynamodb_outbox.") and name in vars(module):
            body = ast.parse(inspect.getsource(module)).body
            for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
                if isinstance(statement, ast.Assign | ast.AnnAssign) and _target_of(statement) == name:
                    is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                    about = following.value.value if is_text else ""  # type: ignore[attr-defined]
                    return _assignment_of(name, statement.value or ast.Pass()), inspect.cleandoc(str(about))
    raise LookupError(f"no module of the library defines {name}")


def _target_of(statement: ast.Assign | ast.AnnAssign) -> str:
    return text_of(statement.targets[0] if isinstance(statement, ast.Assign) else statement.target)


def _assignment_of(name: str, value: ast.AST) -> str:
    line = f"{name} = {text_of(value)}"
    if len(line) <= WIDTH:
        return line
    if isinstance(value, ast.Dict):
        pairs = [(text_of(key or ast.Pass()), text_of(of)) for key, of in zip(value.keys, value.values, strict=True)]
        return f"{name} = {{" + "".join(f"\n    {key}: {of}," for key, of in pairs) + "\n}"
    first, *others = text_of(value).split(" | ")
    return f"{name} = (\n    {first}" + "".join(f"\n    | {other}" for other in others) + "\n)"
