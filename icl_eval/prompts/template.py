"""A prompt template: named blocks of sandboxed Jinja, with every undefined field an error.

Blocks: `query` (required) and `answer` make up an example; `demonstration` is a solved example (query and right answer
unless given); `instruction` stands once at the top; `separator` stands between all of them; `answer_context` conditions
the unconditional likelihood. A source without blocks is the `query`.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta, nodes, sandbox
from jinja2.runtime import Context

from icl_eval.errors import PromptError, UnknownName

DEFAULTS = {
    "instruction": "",
    "answer": " {{ option }}",
    "separator": "\n\n",
    "answer_context": "Answer:",
}
BLOCKS = (*DEFAULTS, "query", "demonstration")
PER_OPTION = ("option", "index")  # what query and answer see besides the fields of the example
GIVEN = (*PER_OPTION, "options", "letters")
LETTERS = (
    *string.ascii_uppercase,
    *(a + b for a in string.ascii_uppercase for b in string.ascii_uppercase),
)  # A ... ZZ
MAX_TEXT = 1_000_000  # characters an expression may build: a template is data from a stranger


class _Sandbox(sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, with multiplication and powers bounded so that a template cannot eat the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        size = max(
            (len(a) * b for a, b in ((left, right), (right, left)) if hasattr(a, "__len__") and isinstance(b, int)),
            default=0,
        )
        if operator == "**" or size > MAX_TEXT:
            raise sandbox.SecurityError(f"{operator!r} builds too large a value")
        return super().call_binop(context, operator, left, right)


_ENVIRONMENT = _Sandbox(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
_ENVIRONMENT.globals.clear()


class Prompt:
    """The words of one (task, style).

    Args:
        source: Jinja with blocks, or a bare template that is taken as the `query` block.
        style: its name, the file's stem for a prompt file.
        path: where it was read from, for error messages.

    Raises:
        PromptError: the source does not parse, has an unknown block, text outside blocks, or no query.
    """

    def __init__(self, source: str, style: str = "inline", path: Path | None = None) -> None:
        self.source, self.style, self.path = source, style, path
        self.digest = hashlib.sha256(source.encode()).hexdigest()
        tree = self._parse(source)
        blocks = {block.name: block for block in tree.find_all(nodes.Block)}
        if not blocks:
            source = f"{{% block query %}}{source}{{% endblock %}}"
            tree = self._parse(source)
            blocks = {block.name: block for block in tree.find_all(nodes.Block)}
        self._check_blocks(tree, blocks)
        for block in blocks.values():
            _drop_edge_line_breaks(block)
        self._tree = tree
        self._template = _ENVIRONMENT.from_string(tree)
        self._defaults = {name: _ENVIRONMENT.from_string(text) for name, text in DEFAULTS.items() if name not in blocks}
        self.separator = self._render("separator", {})
        self.answer_context = self._render("answer_context", {})

    @classmethod
    def from_file(cls, path: Path) -> Prompt:
        """The prompt in a file; its style is the file's stem."""
        return cls(path.read_text(encoding="utf-8"), path.stem, path)

    def instruction(self, fields: Mapping[str, Any]) -> str:
        """What stands once at the top of the prompt."""
        return self._render("instruction", fields)

    def query(self, fields: Mapping[str, Any], options: tuple[str, ...], index: int) -> str:
        """The unsolved example, as it reads for option `index`: the same for all options but in partial evaluation."""
        return self._render("query", _view(fields, options, index))

    def answer(self, fields: Mapping[str, Any], options: tuple[str, ...], index: int) -> str:
        """What follows the query for option `index`: the text that is scored."""
        return self._render("answer", _view(fields, options, index))

    def demonstration(self, fields: Mapping[str, Any], options: tuple[str, ...], gold: int) -> str:
        """The example, solved."""
        view = _view(fields, options, gold)
        if "demonstration" in self._template.blocks:
            return self._render("demonstration", view)
        return self._render("query", view) + self._render("answer", view)

    @property
    def options_in_context(self) -> bool:
        """Whether the query reads differently for each option (partial evaluation, channel prompts)."""
        return bool({"option", "index"} & self._names("query"))

    def check_fields(self, known: Iterable[str]) -> None:
        """Raise `UnknownName`, with file and line, for the first field that a template names and no example has."""
        known = {*known, *GIVEN}
        for name in sorted(meta.find_undeclared_variables(self._tree) - known):
            line = next((n.lineno for n in self._tree.find_all(nodes.Name) if n.name == name), None)
            raise UnknownName("field of the example", name, known - set(GIVEN), self._place, line)

    @property
    def _place(self) -> str:
        return str(self.path) if self.path else f"prompt {self.style!r}"

    def _names(self, block: str) -> set[str]:
        tree = next((b for b in self._tree.find_all(nodes.Block) if b.name == block), None)
        return {node.name for node in tree.find_all(nodes.Name)} if tree else set()

    def _parse(self, source: str) -> nodes.Template:
        try:
            return _ENVIRONMENT.parse(source)
        except jinja2.TemplateSyntaxError as error:
            raise PromptError(f"the template does not parse: {error.message}", self._place, error.lineno) from error

    def _check_blocks(self, tree: nodes.Template, blocks: Mapping[str, nodes.Block]) -> None:
        for name, block in blocks.items():
            if name not in BLOCKS:
                raise UnknownName("prompt block", name, BLOCKS, self._place, block.lineno)
        if "query" not in blocks:
            raise PromptError("there is no `{% block query %}`", self._place)
        for node in tree.body:
            if not isinstance(node, nodes.Block) and not _is_blank(node):
                raise PromptError("text outside the blocks would never be shown", self._place, node.lineno)

    def _render(self, block: str, view: Mapping[str, Any]) -> str:
        template = self._template if block in self._template.blocks else self._defaults[block]
        try:
            if block in self._template.blocks:
                return "".join(template.blocks[block](template.new_context(dict(view))))
            return template.render(view)
        except Exception as error:
            line = _line_in(template, error)
            raise PromptError(f"block `{block}` cannot be rendered: {error}", self._place, line) from error


def _view(fields: Mapping[str, Any], options: tuple[str, ...], index: int) -> dict[str, Any]:
    option = options[index] if options else ""
    return {**fields, "options": options, "index": index, "option": option, "letters": LETTERS}


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Output) and all(
        isinstance(part, nodes.TemplateData) and not part.data.strip() for part in node.nodes
    )


def _drop_edge_line_breaks(block: nodes.Block) -> None:
    """Let a block be written over several lines: the line breaks next to its own two tags are not part of the text."""
    if not block.body:
        return
    first, last = block.body[0], block.body[-1]
    if isinstance(first, nodes.Output) and isinstance(data := first.nodes[0], nodes.TemplateData):
        data.data = data.data.removeprefix("\n")
    if isinstance(last, nodes.Output) and isinstance(data := last.nodes[-1], nodes.TemplateData):
        data.data = data.data.removesuffix("\n")


def _line_in(template: jinja2.Template, error: BaseException) -> int | None:
    """The template's line at which `error` was raised, from the innermost frame that runs the template's code."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == template.filename or frame.tb_frame.f_globals.get("blocks") is not None:
            line = template.get_corresponding_lineno(frame.tb_lineno)
        frame = frame.tb_next
    return line
