"""The template language: Jinja's own sandbox with an allow-list of its syntax, methods and filters.

A template can run no code and read no file. It can be slow: a prompt file runs on its user's machine. So what has been
rendering for `PATIENCE` seconds is named, an interrupt ends it, and loops over `range` and the text itself are bounded.
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

MAX_TEXT = 10_000_000  # characters: a prompt of several million tokens
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
        jinja2.TemplateSyntaxError: it does not parse or uses more of Jinja than the template language has.
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
    """A parsed template, ready to render.

    Raises:
        jinja2.TemplateSyntaxError: a name in it has no meaning, or it is nested too deeply.
    """
    try:
        return _ENVIRONMENT.from_string(tree)
    except (RecursionError, MemoryError, SyntaxError) as error:  # Python's own parser gives up
        raise jinja2.TemplateSyntaxError("the template is nested too deeply", 1) from error


@lru_cache(maxsize=1024)
def small(source: str) -> jinja2.Template:
    """A template within a task file, compiled once for all records."""
    return compiled(parse(source))


def evaluate(source: str, view: Mapping[str, Any], name: str) -> str | list[Any]:
    """The text of a template within a task file, or the list that it gives, if it is one expression: `{{ [a, b] }}`.

    Raises:
        Exception: whatever Jinja and Python raise for what the template does, or the text is too long.
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
    """A template that assigns another template's only expression to `value`; None if that one has other parts."""
    body = parse(source).body
    members = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    if len(members) != 1 or isinstance(members[0], nodes.TemplateData):
        return None
    target = nodes.Name("value", "store", lineno=1, environment=_ENVIRONMENT)
    assigned = nodes.Assign(target, members[0], lineno=1, environment=_ENVIRONMENT)
    return compiled(nodes.Template([assigned], lineno=1, environment=_ENVIRONMENT))


def render(template: jinja2.Template, view: Mapping[str, Any], name: str, block: str | None = None) -> str:
    """The text of a template or of one of its blocks; `name` is printed if rendering takes long.

    Raises:
        Exception: whatever Jinja and Python raise for what the template does, or the text is too long.
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
    """Print this name if rendering takes long."""
    watch = _watch()
    watch.rendering = [name]
    try:
        yield
    finally:
        watch.rendering = None


class _Context(Context):
    """What a template sees, without what Jinja prepares for inheritance: that takes longer than most renderings."""

    def __init__(self, view: Mapping[str, Any]) -> None:
        self.parent = {**GLOBALS, **view}
        self.vars, self.exported_vars, self.blocks = {}, set(), {}


class _Watch:
    """Warns, from another thread, about a template that is still rendering after `patience` seconds.

    Attributes:
        rendering: the name of what is rendered now, in an object of its own for every rendering.
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
    """Lets `~` refuse what has no obvious text, as `{{ }}` does."""

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
    """A value that has an obvious text: anything but nothing, a collection or code."""
    if isinstance(value, str):
        return value
    if value is None:
        raise ValueError("a value is null and would be shown as `None`; use `| default('', true)`")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a value is not a number and would be shown as `{value}`")
    if isinstance(value, Undefined | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | AbstractSet | Iterator) or callable(value):
        raise ValueError(f"a {type(value).__name__} has no text of its own; name one of its members, or use `| join`")
    return value


def _of_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja's that takes what has an obvious text, and does not make the word `None` of nothing."""
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
