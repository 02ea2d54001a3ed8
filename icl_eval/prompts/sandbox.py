"""The template language: Jinja's sandbox, with an allow-list of syntax, methods and filters.

A template cannot run code or read files, but it can be slow. So a warning names a template that has been rendering for
`PATIENCE` seconds, an interrupt ends it, and the length of loops over `range` and of the text is limited.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import cache, lru_cache, wraps
from typing import Any, cast

import jinja2
from jinja2 import filters, nodes, pass_environment, sandbox
from jinja2.runtime import Context, Undefined
from jinja2.visitor import NodeTransformer

from icl_eval.errors import UnknownName

MAX_TEXT = 10_000_000  # characters, which is several million tokens
PATIENCE = 5.0  # seconds

PARTS = (
    *(nodes.Template, nodes.Block, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.Name),
    *(nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Filter, nodes.Test),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr, nodes.Getattr, nodes.Getitem),
    *(nodes.Slice, nodes.Concat, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg),
    *(nodes.Pos, nodes.Call),
)
METHODS = frozenset(
    {
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalpha", "isdigit", "islower", "isupper"),
        *("lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rpartition", "rsplit", "rstrip"),
        *("split", "splitlines", "startswith", "strip", "swapcase", "title", "upper"),  # of texts
        *("get", "items", "keys", "values"),  # of mappings
        *("changed", "cycle"),  # of `loop`
    }
)
TEXT_FILTERS = ("capitalize", "lower", "replace", "string", "title", "trim", "truncate", "upper", "wordcount")
OTHER_FILTERS = (
    *(
        "abs",
        "count",
        "d",
        "default",
        "dictsort",
        "first",
        "float",
        "groupby",
        "int",
        "items",
        "last",
        "length",
        "list",
    ),
    *("map", "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "sort", "unique"),
)
GLOBALS = {"range": sandbox.safe_range}


def parse(source: str) -> nodes.Template:
    """The syntax tree of a template.

    Raises:
        jinja2.TemplateSyntaxError: the template does not parse, or uses syntax that the template language excludes.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
        for node in tree.find_all(nodes.Node):
            _check(node)
        checked = _CheckedConcatenation().visit(tree)
    except RecursionError as error:
        raise jinja2.TemplateSyntaxError("the template is nested too deeply", 1) from error
    return cast(nodes.Template, checked)


def compiled(tree: nodes.Template) -> jinja2.Template:
    """The compiled template of a syntax tree.

    Raises:
        jinja2.TemplateSyntaxError: the template uses an unknown name, or is nested too deeply.
    """
    try:
        return _ENVIRONMENT.from_string(tree)
    except (RecursionError, MemoryError, SyntaxError) as error:  # errors of Python's own parser
        raise jinja2.TemplateSyntaxError("the template is nested too deeply", 1) from error


@lru_cache(maxsize=1024)
def small(source: str) -> jinja2.Template:
    """The compiled template of a text in a task file; cached for all records."""
    return compiled(parse(source))


def evaluate(source: str, view: Mapping[str, Any], name: str) -> str | list[Any]:
    """The text of a template in a task file, or a list if the template is a single expression such as `{{ [a, b] }}`.

    Args:
        source: the template.
        view: the variables that it can use.
        name: its name in warnings.

    Raises:
        Exception: whatever rendering raises, such as an undefined variable or a text that is too long.
    """
    if (expression := _expression(source)) is None:
        return render(small(source), view, name)
    context = _Context(view)
    for _ in expression.root_render_func(context):
        pass
    value = context.vars["value"]
    return list(value) if isinstance(value, list | tuple) else str(_printable(value))


@lru_cache(maxsize=1024)
def _expression(source: str) -> jinja2.Template | None:
    """A template that assigns the only expression of `source` to `value`; None if `source` has other parts."""
    body = parse(source).body
    members = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    if len(members) != 1 or isinstance(members[0], nodes.TemplateData):
        return None
    target = nodes.Name("value", "store", lineno=1, environment=_ENVIRONMENT)
    assigned = nodes.Assign(target, members[0], lineno=1, environment=_ENVIRONMENT)
    return compiled(nodes.Template([assigned], lineno=1, environment=_ENVIRONMENT))


def render(template: jinja2.Template, view: Mapping[str, Any], name: str, block: str | None = None) -> str:
    """The text of a template or of one of its blocks.

    Args:
        template: the compiled template.
        view: the variables that it can use.
        name: its name in warnings.
        block: the block to render; by default the whole template.

    Raises:
        Exception: whatever rendering raises, such as an undefined variable or a text that is too long.
    """
    pieces, length, watch = [], 0, _watch()
    watch.rendering = [name]
    try:
        for piece in (template.root_render_func if block is None else template.blocks[block])(_Context(view)):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_TEXT:
                raise ValueError(f"the text is longer than {MAX_TEXT} characters")
    finally:
        watch.rendering = None
    return "".join(pieces)


@contextmanager
def watched(name: str) -> Iterator[None]:
    """Warn, with this name, if the block takes long."""
    watch = _watch()
    watch.rendering = [name]
    try:
        yield
    finally:
        watch.rendering = None


class _Context(Context):
    """The variables of a template, without Jinja's preparation for inheritance, which is slower than most templates."""

    def __init__(self, view: Mapping[str, Any]) -> None:
        self.parent = {**GLOBALS, **view}
        self.vars, self.exported_vars, self.blocks = {}, set(), {}


class _Watch:
    """Warns, from another thread, about a template that has been rendering for `patience` seconds.

    Attributes:
        rendering: the name of the template that is being rendered, in a new list for each rendering; None if there is
            none.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.rendering: list[str] | None = None
        self._patience = patience
        threading.Thread(target=self._look, name="icl-eval templates", daemon=True).start()

    def _look(self) -> None:
        seen = warned = None
        while True:
            time.sleep(self._patience)
            if (now := self.rendering) is not None and now is seen and now is not warned:
                sentence = "%s has been rendering for more than %g seconds; Ctrl-C ends it"
                _LOGGER.warning(sentence, now[0], self._patience)
                warned = now
            seen = now


class _CheckedConcatenation(NodeTransformer):
    """Makes `~` refuse values without an obvious text, as `{{ }}` does."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        members = nodes.List(node.nodes, lineno=node.lineno, environment=_ENVIRONMENT)
        return nodes.Filter(members, "join", [], [], None, None, lineno=node.lineno, environment=_ENVIRONMENT)


def _check(node: nodes.Node) -> None:
    kind = type(node).__name__.lower()
    if not isinstance(node, PARTS) or (isinstance(node, nodes.For) and node.recursive):
        raise jinja2.TemplateSyntaxError(f"{kind!r} is not part of the template language", node.lineno)
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise jinja2.TemplateSyntaxError(str(UnknownName("filter", str(node.name), FILTERS)), node.lineno)
    if isinstance(node, nodes.Call) and not _is_allowed(node.node):
        name = str(getattr(node.node, "attr", getattr(node.node, "name", "this")))
        hint = f"; there is the filter `| {name}`" if name in FILTERS else ""
        raise jinja2.TemplateSyntaxError(f"{name!r} cannot be called in a template{hint}", node.lineno)


def _is_allowed(called: nodes.Expr) -> bool:
    if isinstance(called, nodes.Name):
        return called.name in GLOBALS
    return isinstance(called, nodes.Getattr) and called.attr in METHODS


def _printable(value: Any) -> Any:
    """The value, if it has an obvious text: anything but null, a collection or a function.

    Raises:
        ValueError: it has no obvious text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise ValueError("a value is null and would be written as `None`; use `| default('', true)`")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a value is not finite and would be written as `{value}`")
    if isinstance(value, Undefined | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | AbstractSet | Iterator) or callable(value):
        kind = type(value).__name__
        raise ValueError(f"a {kind} cannot be written as text; select one of its members, or use `| join`")
    return value


def _of_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja that only takes values with an obvious text, so that null does not become `None`."""
    index = int(hasattr(function, "jinja_pass_arg"))

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        return function(*args[:index], _printable(args[index]), *args[index + 1 :], **kwargs)

    return checked


@pass_environment
def _join(environment: jinja2.Environment, items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    members = items if attribute is None else map(filters.make_attrgetter(environment, attribute), items)
    return d.join(str(_printable(member)) for member in members)


FILTERS = {
    **{name: filters.FILTERS[name] for name in OTHER_FILTERS},
    **{name: _of_text(filters.FILTERS[name]) for name in TEXT_FILTERS},
    "join": _join,
}


def _environment() -> jinja2.Environment:
    environment = sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_printable
    )
    environment.globals, environment.filters = dict(GLOBALS), dict(FILTERS)
    return environment


_ENVIRONMENT = _environment()
_Context.environment, _Context.name, _Context.globals_keys = _ENVIRONMENT, None, set(GLOBALS)
_Context.eval_ctx = nodes.EvalContext(_ENVIRONMENT)
_LOGGER = logging.getLogger("icl_eval")


@cache
def _watch() -> _Watch:
    return _Watch()
