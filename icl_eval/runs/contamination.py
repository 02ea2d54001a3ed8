"""`contamination`: find examples whose n-grams occur in text files (Brown et al. 2020, section 4 and appendix C)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icl_eval.errors import DataError, MissingData
from icl_eval.ngrams import NgramIndex, Occurrence, Passage, Words, passages, search, shared_ngrams, text_files
from icl_eval.prompts import Prompt
from icl_eval.results.contamination import Contamination, Overlap, Searched
from icl_eval.results.records import Failure
from icl_eval.runs.tasks import source_of
from icl_eval.tasks import Example, Library, Source, Task

MIN_WORDS, MAX_WORDS = 8, 13  # of an n-gram
MIN_WORDS_OF_SYNTHETIC = 2  # for tasks with generated examples, which can be this short
PERCENTILE = 5  # percentile of the lengths of a task's examples, which is the n-gram size within these limits
Progress = Callable[[int], Callable[[int], None]]  # number of bytes -> called with how many more are read


def contamination(
    tasks: str | Task | Sequence[str | Task],
    texts: str | Path | Sequence[str | Path],
    *,
    library: Library | None = None,
    data: str | Path = "hub",
    split: str | None = None,
    ngram: int | None = None,
    text_field: str = "text",
    progress: Progress = lambda _: lambda _: None,
) -> Contamination:
    """Find the examples of tasks that have an n-gram in common with text files.

    Words are split at white space, in lower case and without punctuation. The size of a task's n-grams is the 5th
    percentile of its examples' lengths in words, but at least 8 (2 for generated examples) and at most 13. An example
    is dirty if any of its n-grams occurs in any text. An example that is shorter than an n-gram is dirty if a text
    contains all of it. The text of an example is its demonstration in the prompt, with the right answer. N-grams that
    all examples of a task have are ignored.

    Args:
        tasks: names of tasks and suites, or `Task` objects.
        texts: files and folders with plain text or JSON lines, which may be compressed with gzip, bzip2, xz or
            Zstandard. Every line of JSON is a text; a plain file is one text.
        library: where names of tasks are looked up; the bundled library by default.
        data: `hub`, `sample`, or a directory.
        split: the split to search for; each task's own by default.
        ngram: size of the n-grams in words, instead of the rule above.
        text_field: field of JSON lines that contains the text.
        progress: called with the number of bytes of the files; the function that it returns is called with the number
            of bytes read since its last call.

    Raises:
        IclEvalError: a task, its data or a file cannot be read, or there is nothing to compare.
    """
    wanted = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    files = text_files([Path(each) for each in ([texts] if isinstance(texts, str | Path) else texts)])
    found, failures = _read(wanted, library or Library(), data, split, ngram)
    index = NgramIndex(
        [text for each in found for text in each.texts],
        [each.size for each in found for _ in each.texts],
        list(_ignored(found)),
    )
    tick = progress(sum(file.stat().st_size for file in files))
    overlaps = _overlaps(found, index, passages(files, text_field, index.longest, tick))
    searched = [each.searched(overlaps) for each in found]
    return Contamination(tuple(searched), tuple(overlaps), tuple(failures))


def _overlaps(found: Sequence[_Examples], index: NgramIndex, texts: Iterator[Passage]) -> list[Overlap]:
    """The examples with an n-gram in the texts, in their order, each with the first occurrence."""
    examples = [(each.task.name, example.id) for each in found for example in each.examples]
    hits: defaultdict[int, list[tuple[Occurrence, Passage]]] = defaultdict(list)
    for occurrence, passage in search(index, texts):
        for owner in index.owners(occurrence):
            hits[owner].append((occurrence, passage))
    overlaps = []
    for owner in sorted(hits):
        (task, id), (occurrence, passage) = examples[owner], hits[owner][0]
        overlaps.append(
            Overlap(
                task=task,
                id=id,
                ngram=index.ngram(occurrence),
                file=str(passage.path),
                line=passage.line,
                offset=passage.offset,
                ngrams=len(hits[owner]),
            )
        )
    return overlaps


@dataclass(frozen=True)
class _Examples:
    """The examples of a task, with the text of each."""

    task: Task
    split: str  # empty if it is the task's own
    examples: Sequence[Example]
    texts: Sequence[str]
    size: int  # words of an n-gram

    @classmethod
    def of(cls, task: Task, source: Source, split: str | None, ngram: int | None) -> _Examples:
        """Read the examples of a split of a task, by default its own.

        Raises:
            DataError: no example has a word.
        """
        prompt, of_choice = task.prompt(), task.definition.answer == "choice"
        chosen, default = task.on(split), task.definition.splits.evaluation
        examples, override = chosen.evaluation(source), split if split and split != default else ""
        texts = [_text(prompt, each, of_choice) for each in examples]
        lengths = [length for text in texts if (length := len(Words.of(text)))]
        if not lengths:
            raise DataError(f"{task.name}: no example has a word to look for")
        least = MIN_WORDS_OF_SYNTHETIC if task.definition.data.synthetic else MIN_WORDS
        size = min(max(int(np.percentile(lengths, PERCENTILE)), least), MAX_WORDS)
        return cls(task, override, examples, texts, size if ngram is None else ngram)

    def searched(self, overlaps: Sequence[Overlap]) -> Searched:
        """The numbers of examples and of dirty examples."""
        dirty = sum(each.task == self.task.name for each in overlaps)
        return Searched(
            task=self.task.name, split=self.split, ngram=self.size, examples=len(self.examples), dirty=dirty
        )


def _read(
    wanted: Sequence[str | Task], library: Library, data: str | Path, split: str | None, ngram: int | None
) -> tuple[list[_Examples], list[Failure]]:
    """The examples of all tasks, and the tasks whose data is missing.

    Raises:
        MissingData: the data of every task is missing.
    """
    tasks = [task for each in wanted for task in ([each] if isinstance(each, Task) else library.tasks([each]))]
    source = source_of(data, unused=all(task.source is not None for task in tasks))
    found: list[_Examples] = []
    missing: list[tuple[Failure, MissingData]] = []
    for task in {each.name: each for each in tasks}.values():
        try:
            found.append(_Examples.of(task, source, split, ngram))
        except MissingData as error:
            missing.append((Failure(task=task.name, selection="", reason=str(error)), error))
    if missing and not found:
        raise missing[0][1]
    return found, [failure for failure, _ in missing]


def _text(prompt: Prompt, example: Example, of_choice: bool) -> str:
    """An example as a demonstration of the prompt; the query alone if the example has no right answer."""
    options = example.options if of_choice else example.options[:1]
    if not example.gold:
        return prompt.query(example.fields, options, 0)
    return prompt.demonstration(example.fields, example.options, example.gold[0])


def _ignored(found: Sequence[_Examples]) -> Iterator[tuple[range, np.ndarray[tuple[int], np.dtype[np.uint64]]]]:
    """Hashes of the n-grams that all examples of a task have, and the texts of the task; these come from the prompt."""
    start = 0
    for each in found:
        yield range(start, start + len(each.texts)), shared_ngrams(each.texts, each.size)
        start += len(each.texts)
