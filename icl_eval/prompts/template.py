"""Prompt templates: named blocks of sandboxed Jinja, in which an undefined field is an error.

A source without blocks is the block `query`.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta, nodes

from icl_eval.errors import PromptError, UnknownName
from icl_eval.prompts import sandbox
from icl_eval.prompts.formats import Format, Formats, apply, edits_of, renamed

BLOCKS = {
    "query": "the example without its answer; required",
    "answer": "the answer after the query, which is scored",
    "demonstration": "an example with its answer; by default, `query` and `answer` of the right option",
    "instruction": "text at the top of the prompt",
    "separator": "text between instruction, demonstrations and query",
    "answer_context": "context of the unconditional likelihood",
}
"""The blocks of a prompt file, and what each holds."""
DEFAULTS = {"answer": " {{ option }}", "instruction": "", "separator": "\n\n", "answer_context": "Answer:"}
PER_OPTION = ("option", "index")  # variables that differ between options
GIVEN = (*PER_OPTION, "options", "letters")  # variables of all templates, besides the fields of the example
RESERVED = (*PER_OPTION, "letters")  # names that no field may have; a field `options` usually is the list of options
CACHED_TEXTS = 1000  # maximum number of cached texts of blocks without fields
LETTERS = (*string.ascii_uppercase, *(a + b for a in string.ascii_uppercase for b in string.ascii_uppercase))
"""Names of options: A to ZZ."""


class Prompt:
    """A prompt template.

    Args:
        source: a Jinja template with blocks, or without, which is then the block `query`.
        style: its name; the stem of a prompt file's name.
        path: the file it was read from, for error messages.
        format: a format that changes the template; None for the source itself.

    Raises:
        PromptError: the source does not parse, has no query, or has text outside blocks.
        UnknownName: there is no block of this name.
    """

    def __init__(
        self, source: str, style: str = "inline", path: Path | None = None, format: Format | None = None
    ) -> None:
        self.source, self.style, self.path, self.format = source, style, path, format
        self.digest = hashlib.sha256(f"{source}{format.words if format else ''}".encode()).hexdigest()
        tree = self._parse(source)
        if path is not None and not source.strip():
            raise PromptError("the file is empty; write an empty query as `{% block query %}{% endblock %}`", path)
        if next(tree.find_all(nodes.Block), None) is None:
            tree = self._parse(f"{{% block query %}}{source}{{% endblock %}}")
        self._blocks = self._checked_blocks(tree)
        for block in self._blocks.values():
            if _drop_edge_line_breaks(block):
                message = f"the block `{block.name}` contains only line breaks, which are removed next to its tags"
                raise PromptError(f'{message}; write {{{{ "\\n" }}}}', self._location, block.lineno)
        self._renamed: dict[str, str] = {}
        if format is not None:
            self._blocks |= (defaults := self._default_blocks())
            tree.body += defaults.values()
            edits = edits_of(self._blocks)
            self._renamed = renamed(edits, format)
            apply(edits, format)
        self._tree = tree
        self._template = self._compiled(tree)
        self._named = {block: f"the block `{block}` of {self._location}" for block in BLOCKS}
        self._names = {name: self._names_in(block) for name, block in self._blocks.items()}
        self._options_differ = bool({"option", "index"} & self._names["query"])
        self._without_fields = {block for block in BLOCKS if self._names.get(block, set()) <= set(GIVEN)}
        self._cached_texts: dict[tuple[str, tuple[str, ...], int], str] = {}
        self._letters = (format and format.letters) or LETTERS
        self.separator = (format and format.line_breaks) or self._render("separator", {})

    @staticmethod
    def from_file(path: Path) -> Prompt:
        """The prompt in a file; its style is the stem of the file's name.

        Raises:
            PromptError: the file cannot be read, or the template is invalid.
        """
        try:
            source = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"cannot be read: {error}", path) from error
        return prompt_of(source, path.stem, path)

    def formats(self, number: int, seed: int) -> list[Prompt]:
        """This prompt and `number` - 1 different variants of the same meaning, drawn by seed.

        Raises:
            PromptError: the prompt has nothing to vary, or not enough formats.
        """
        found = Formats(self._blocks | self._default_blocks(), self.separator)
        if len(found) == 1:
            nothing = "no field names (`Name:` at the beginning of a line) or options with `letters` to vary"
            raise PromptError(f"the prompt has no formats: it has {nothing}", self._location)
        if number > len(found):
            raise PromptError(f"the prompt has {len(found)} formats, so {number} cannot be drawn", self._location)
        end = f"s{seed}" if seed else ""
        drawn = enumerate(found.drawn(number, seed))
        return [prompt_of(self.source, f"{self.style}~f{i}{end}", self.path, each) if i else self for i, each in drawn]

    def stop(self, text: str) -> str:
        """The stop string in this format for the stop string `text` of the original prompt."""
        return self._renamed.get(text, text)

    def instruction(self, fields: Mapping[str, Any]) -> str:
        """The text at the top of the prompt."""
        return self._render("instruction", fields) if "instruction" in self._blocks else DEFAULTS["instruction"]

    def query(self, fields: Mapping[str, Any], options: tuple[str, ...], index: int) -> str:
        """The example without its answer, for option `index`; it only depends on the option in partial evaluation."""
        return self._of_option("query", fields, options, index)

    def queries(self, fields: Mapping[str, Any], options: tuple[str, ...]) -> tuple[str, ...]:
        """The `query` of each option; rendered once if it is the same for all."""
        if self._options_differ:
            return tuple(self.query(fields, options, index) for index in range(len(options)))
        return (self.query(fields, options, 0),) * len(options)

    def answer(self, fields: Mapping[str, Any], options: tuple[str, ...], index: int) -> str:
        """The answer after the query for option `index`: the text that is scored."""
        return self._of_option("answer", fields, options, index)

    def demonstration(self, fields: Mapping[str, Any], options: tuple[str, ...], gold: int) -> str:
        """The example with its answer."""
        if "demonstration" in self._blocks:
            return self._of_option("demonstration", fields, options, gold)
        return self.query(fields, options, gold) + self.answer(fields, options, gold)

    def reply(self, demonstration: str, fields: Mapping[str, Any], options: tuple[str, ...], gold: int) -> str:
        """The answer in a demonstration; empty if the demonstration does not begin with its query."""
        query = self.query(fields, options, gold)
        return demonstration.removeprefix(query) if demonstration.startswith(query) else ""

    def answer_context(self, fields: Mapping[str, Any]) -> str:
        """The context of an answer's unconditional likelihood."""
        return self._render("answer_context", fields)

    def check_fields(self, known: Iterable[str]) -> None:
        """Check that every name in the template is that of a field or of a variable of all templates, and only of one.

        Raises:
            UnknownName: there is no field of a name.
            PromptError: a field has the name of a variable of all templates.
        """
        known = set(known)
        for name in sorted(meta.find_undeclared_variables(self._tree)):
            line = next((n.lineno for n in self._tree.find_all(nodes.Name) if n.name == name), None)
            if name not in {*known, *GIVEN, *sandbox.GLOBALS}:
                raise UnknownName("field of the example", name, known, self._location, line)
            if name in known and name in RESERVED:
                raise PromptError(
                    f"`{name}` is a field of the example and also a variable of all templates; rename the field",
                    self._location,
                    line,
                )

    def check_query_is_unsolved(self) -> None:
        """Raise `PromptError` if the query of a task with text answers uses the references."""
        for name in sorted({*PER_OPTION, "options"} & self._names["query"]):
            message = f"the query uses `{name}`, which reveals the answer; only `answer` and `demonstration` may use it"
            raise PromptError(message, self._location, self._blocks["query"].lineno)

    @property
    def question_fields(self) -> set[str]:
        """Names of the fields that the query or the instruction uses, which make up the question."""
        return (self._names["query"] | self._names.get("instruction", set())) - set(GIVEN)

    @cached_property
    def content_fields(self) -> set[str]:
        """Names of the fields whose values the query or the instruction shows, not just uses in conditions."""
        return {
            name
            for block in ("query", "instruction")
            if block in self._blocks
            for name in _names_outside_conditions(self._blocks[block])
        } & self.question_fields

    @property
    def is_partial(self) -> bool:
        """Whether the query uses the option, so that the contexts of options differ (partial evaluation)."""
        return self._options_differ

    def _names_in(self, block: nodes.Block) -> set[str]:
        tree = nodes.Template(block.body, lineno=1, environment=self._tree.environment)
        return meta.find_undeclared_variables(tree)

    @property
    def _location(self) -> str:
        return str(self.path) if self.path else f"prompt {self.style!r}"

    def _parse(self, source: str) -> nodes.Template:
        try:
            return sandbox.parse(source)
        except jinja2.TemplateSyntaxError as error:
            raise PromptError(f"the template does not parse: {error.message}", self._location, error.lineno) from error

    def _compiled(self, tree: nodes.Template) -> jinja2.Template:
        try:
            return sandbox.compiled(tree)
        except jinja2.TemplateSyntaxError as error:
            raise PromptError(
                f"the template does not compile: {error.message}", self._location, error.lineno
            ) from error

    def _default_blocks(self) -> dict[str, nodes.Block]:
        """The default blocks of those that the source leaves out and that formats change."""
        missing = [name for name in ("answer", "answer_context") if name not in self._blocks]
        sources = "".join(f"{{% block {name} %}}{DEFAULTS[name]}{{% endblock %}}" for name in missing)
        return dict(zip(missing, self._parse(sources).find_all(nodes.Block), strict=True))

    def _checked_blocks(self, tree: nodes.Template) -> dict[str, nodes.Block]:
        blocks: dict[str, nodes.Block] = {}
        for node in tree.body:
            if isinstance(node, nodes.Block):
                if node.name in blocks:
                    raise PromptError(f"the block `{node.name}` appears twice", self._location, node.lineno)
                blocks[node.name] = node
            elif not _is_blank(node):
                raise PromptError("text outside of blocks would not be part of any prompt", self._location, node.lineno)
        for block in tree.find_all(nodes.Block):
            if block.name not in BLOCKS:
                raise UnknownName("prompt block", block.name, BLOCKS, self._location, block.lineno)
            if blocks.get(block.name) is not block:
                raise PromptError(f"the block `{block.name}` is inside another", self._location, block.lineno)
        if "query" not in blocks:
            raise PromptError("there is no `{% block query %}`", self._location)
        return blocks

    def _of_option(self, block: str, fields: Mapping[str, Any], options: tuple[str, ...], index: int) -> str:
        """The text of a block for an option; cached if the block uses no fields."""
        if block not in self._without_fields:
            return self._render(block, self._view(fields, options, index))
        key = block, options, index
        if key not in self._cached_texts:
            if len(self._cached_texts) >= CACHED_TEXTS:
                self._cached_texts.clear()
            self._cached_texts[key] = self._render(block, self._view(fields, options, index))
        return self._cached_texts[key]

    def _view(self, fields: Mapping[str, Any], options: tuple[str, ...], index: int) -> dict[str, Any]:
        option = options[index] if options else ""
        return {**fields, "options": options, "index": index, "option": option, "letters": self._letters}

    def _render(self, block: str, view: Mapping[str, Any]) -> str:
        own = block in self._blocks
        template = self._template if own else sandbox.small(DEFAULTS[block])
        try:
            return sandbox.render(template, view, self._named[block], block if own else None)
        except Exception as error:
            line = _line_in(template, error) if own else None
            raise PromptError(
                f"block `{block}` cannot be rendered: {str(error) or type(error).__name__}", self._location, line
            ) from error


@lru_cache(maxsize=512)
def prompt_of(source: str, style: str, path: Path | None = None, format: Format | None = None) -> Prompt:
    """A prompt, parsed and compiled once for all tasks and runs of a process; arguments and errors as of `Prompt`."""
    return Prompt(source, style, path, format)


def _names_outside_conditions(node: nodes.Node) -> Iterator[str]:
    """The names that a template uses outside of conditions."""
    if isinstance(node, nodes.Name):
        yield node.name
    condition = node.test if isinstance(node, nodes.If | nodes.CondExpr) else None
    for child in node.iter_child_nodes():
        if child is not condition:
            yield from _names_outside_conditions(child)


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Output) and all(
        isinstance(part, nodes.TemplateData) and not part.data.strip() for part in node.nodes
    )


def _drop_edge_line_breaks(block: nodes.Block) -> bool:
    """Remove the line breaks next to the two tags of a block, so that a block can be written over several lines.

    Returns:
        Whether a block that was not empty is empty now.
    """
    if not block.body:
        return False
    first, last = block.body[0], block.body[-1]
    if isinstance(first, nodes.Output) and isinstance(data := first.nodes[0], nodes.TemplateData):
        data.data = data.data.removeprefix("\n")
    if isinstance(last, nodes.Output) and isinstance(data := last.nodes[-1], nodes.TemplateData):
        data.data = data.data.removesuffix("\n")
    return first is last and [getattr(part, "data", None) for part in getattr(first, "nodes", ())] == [""]


def _line_in(template: jinja2.Template, error: BaseException) -> int | None:
    """The line of the template at which `error` was raised, or None if it was not raised in the template's code."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == template.filename:
            line = template.get_corresponding_lineno(frame.tb_lineno)
        frame = frame.tb_next
    return line
