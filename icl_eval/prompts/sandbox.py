"""The template language: Jinja's expressions, `if`, `for` and `set`, with all work bounded.

A template is data from a stranger. It can define, call and import nothing, and it can neither hang nor eat the memory:
nothing that it builds is longer than `MAX_TEXT` characters, and one rendering does at most `MAX_WORK`, of which a
character that an operation reads, a member of a collection and a turn of a loop take their share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import chain
from typing import Any, cast

import jinja2
from jinja2 import filters, nodes, pass_context, pass_environment, sandbox
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.visitor import NodeTransformer

from icl_eval.errors import UnknownName

MAX_TEXT = 10_000_000  # characters: a prompt of several million tokens
MAX_WORK = 200_000_000  # characters: about a second
TURN = 2_000  # characters that could be read in its time, with much room: 100,000 turns are the most
MEMBER = 200
MAX_BITS = 4_096  # of a whole number
MAX_DIGITS = 15  # what a float holds
_DONE = "work done"  # not an identifier, so no template can name it

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
SAFE_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last"),
    *("length", "list", "lower", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr"),
    *("sort", "string", "title", "trim", "truncate", "unique", "upper", "wordcount"),
)


def parse(source: str) -> nodes.Template:
    """The syntax tree of a template, its loops and values bounded.

    Raises:
        jinja2.TemplateSyntaxError: it does not parse or uses more of Jinja than the template language has.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
        for node in tree.find_all(nodes.Node):
            _check(node)
        bounded = _Bounds().visit(tree)
    except RecursionError as error:
        raise jinja2.TemplateSyntaxError("the template is nested too deeply", 1) from error
    return cast(nodes.Template, bounded)


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


def render(template: jinja2.Template, view: Mapping[str, Any], block: str | None = None) -> str:
    """The text of a template or of one of its blocks."""
    context = template.new_context({**view, _DONE: [0]})
    pieces, length = [], 0
    for piece in (template.root_render_func if block is None else template.blocks[block])(context):
        pieces.append(piece)
        length += len(piece)
        _require(length, "the text")
    return "".join(pieces)


class _Sandbox(sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            raise SecurityError("`%` does not format texts here; join them with `~`")
        if operator == "*":
            _require_product(left, right)
        return _measured(context, super().call_binop(context, operator, left, right))


class _Bounds(NodeTransformer):
    """Measures what operations read, so that neither loops nor variables that double with every `set` get far."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered("_turns", node.iter)
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Assign:  # noqa: N802
        self.generic_visit(node)
        node.node = _filtered("_measured", node.node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        if node.node is not None:
            node.node = _filtered("_measured", node.node)
        return _filtered("_measured", node)

    def visit_Test(self, node: nodes.Test) -> nodes.Test:  # noqa: N802
        self.generic_visit(node)
        node.node = _filtered("_measured", node.node)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered("_measured", node.expr)
        for operand in node.ops:
            operand.expr = _filtered("_measured", operand.expr)
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Getattr:  # noqa: N802
        self.generic_visit(node)
        node.node = _filtered("_measured", node.node)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered("_measured", node.node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filtered("join", nodes.List(node.nodes, lineno=node.lineno, environment=_ENVIRONMENT))


def _filtered(name: str, node: nodes.Node) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=_ENVIRONMENT)


def _check(node: nodes.Node) -> None:
    kind = type(node).__name__.lower()
    if not isinstance(node, PARTS) or (isinstance(node, nodes.For) and node.recursive):
        raise jinja2.TemplateSyntaxError(f"{kind!r} is not part of the template language", node.lineno)
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise jinja2.TemplateSyntaxError(str(UnknownName("filter", str(node.name), FILTERS)), node.lineno)
    if isinstance(node, nodes.Call) and not (isinstance(node.node, nodes.Getattr) and node.node.attr in METHODS):
        name = str(getattr(node.node, "attr", getattr(node.node, "name", "this")))
        hint = f"; there is the filter `| {name}`" if name in FILTERS else ""
        raise jinja2.TemplateSyntaxError(f"{name!r} cannot be called in a template{hint}", node.lineno)


def _shown(value: Any) -> Any:
    """A value that has an obvious text: anything but nothing, a collection or code."""
    if value is None:
        raise ValueError("a value is null and would be shown as `None`; use `| default('', true)`")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a value is no number and would be shown as `{value}`")
    if isinstance(value, Undefined | str | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | AbstractSet | Iterator) or callable(value):
        raise ValueError(f"a {type(value).__name__} has no text of its own; name one of its members, or use `| join`")
    return value


@pass_context
def _turns(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _work(context, TURN)
        yield item


@pass_context
def _measured(context: Context, value: Any) -> Any:
    """A value, if what it would print is within bounds; a collection counts with everything in it."""
    length, found = 0, [value]
    while found:
        item = found.pop()
        if isinstance(item, str):
            length += len(item)
            _work(context, len(item))
        elif isinstance(item, Mapping | list | tuple):
            length += len(item)
            _work(context, len(item) * MEMBER)
            found.extend(chain(item.keys(), item.values()) if isinstance(item, Mapping) else item)
        _require(length, "a value")
    return value


def _work(context: Context, amount: int) -> None:
    done = context.parent[_DONE]
    done[0] += amount
    if done[0] > MAX_WORK:
        raise SecurityError("it takes too long: too many turns of loops, or too much text in them")


def _require(length: int, what: str) -> None:
    if length > MAX_TEXT:
        raise SecurityError(f"{what} is longer than {MAX_TEXT} characters")


def _require_product(left: Any, right: Any) -> None:
    for one, other in ((left, right), (right, left)):
        if hasattr(one, "__len__") and isinstance(other, int):
            _require(len(one) * other, "a product")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise SecurityError(f"a number has more than {MAX_BITS} bits")


@pass_environment
def _join(environment: jinja2.Environment, items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    member = filters.make_attrgetter(environment, attribute) if attribute is not None else _shown
    texts, length = [], 0
    for item in items:
        texts.append(str(_shown(member(item))))
        length += len(texts[-1]) + len(d)
        _require(length, "a joined text")
    return d.join(texts)


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    text = str(_shown(text))
    _require(len(text) + text.count(old) * len(new), "a text with replacements")
    return str(text.replace(old, new, count))


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > MAX_DIGITS:
        raise SecurityError(f"a number cannot be rounded to {precision} digits")
    return float(filters.do_round(value, precision, method))  # type: ignore[arg-type]


@pass_context
def _map(context: Context, items: Iterable[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    for item in filters.sync_do_map(context, items, *args, **kwargs):
        yield _measured(context, item)


FILTERS = {name: filters.FILTERS[name] for name in SAFE_FILTERS} | {
    "join": _join,
    "map": _map,
    "replace": _replace,
    "round": _round,
}


def _environment() -> _Sandbox:
    environment = _Sandbox(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_shown)
    environment.globals.clear()
    environment.filters = FILTERS | {"_turns": _turns, "_measured": _measured}
    return environment


_ENVIRONMENT = _environment()
