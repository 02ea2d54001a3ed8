"""Reports in Chromium, driven by its WebDriver; nothing else is needed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from toy_tasks import NAMES, knowing, parity, records

from icl_eval import Task, evaluate
from icl_eval.cli.report import write_report
from icl_eval.testing import FakeLM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromedriver is not installed"),
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-sync", "--disable-component-update", "--window-size=1280,1000"),
]
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202e\x1b"


class Browser:
    """A session of WebDriver."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"args": FLAGS}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"}}
        found = self._post("", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/{found['sessionId']}"

    def open(self, path: Path, fragment: str = "") -> None:
        self._post("/url", {"url": "about:blank"})
        self._post("/url", {"url": f"{path.resolve().as_uri()}{fragment}"})
        self.wait("return document.documentElement.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        return self._post("/execute/sync", {"script": script, "args": []})

    def wait(self, condition: str) -> None:
        end = time.monotonic() + 60
        while not self.run(condition):
            assert time.monotonic() < end, condition

    def log(self, kind: str) -> list[dict[str, Any]]:
        return list(self._post("/se/log", {"type": kind}))

    def close(self) -> None:
        urlopen(Request(self._url, method="DELETE"))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = Request(self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urlopen(f"http://127.0.0.1:{port}/status").close()
                break
            except (URLError, ConnectionError):
                time.sleep(0.1)
        found = Browser(port)
        yield found
        found.close()
    finally:
        driver.terminate()
        driver.wait()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    rows = [*records(range(8)), {"id": HOSTILE, "n": HOSTILE, "label": 0}]
    task = Task.from_records(
        "toy", evaluation=rows, demonstrations=records(range(100, 112)), prompt="Q: {{ n }}\nA:", options=NAMES, id="id"
    )
    write_report([evaluate(knowing(0, 1, 2), task, shots=[0, 1], seeds=2, out=folder)], folder / "report.html")
    return folder / "report.html"


def test_nothing_is_requested_from_the_network_and_hostile_texts_do_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelectorAll('.item:not(.head)').forEach(row => row.click())")
    browser.wait("return document.getElementById('detail').textContent.includes('Prompt')")
    sent = [json.loads(each["message"])["message"] for each in browser.log("performance")]
    urls = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]

    assert {url for url in urls if not url.startswith(("about:", "file:", "data:"))} == set()
    assert len({url for url in urls if url.startswith("file:")}) == 1
    assert browser.run("return document.title") == "fake - icl-eval"
    assert [each for each in browser.log("browser") if each["level"] == "SEVERE"] == []


def test_items_are_filtered_by_answer_text_and_confusion(browser: Browser, page: Path) -> None:
    browser.open(page)
    count = "return document.getElementById('count').textContent"
    set_value = "const box = document.getElementById('{}'); box.value = '{}'; box.dispatchEvent(new Event('{}'))"
    assert browser.run(count).startswith("27 of 27 items, ")
    browser.run(set_value.format("shots", "0", "change"))
    assert browser.run(count).startswith("9 of 27 items, ")
    browser.run(set_value.format("out", "0", "change"))
    wrong = int(browser.run(count).split()[0])
    cells = browser.run("return [...document.querySelectorAll('#matrix td')].map(cell => +cell.textContent)")
    assert sum(cells) == wrong
    browser.run("document.querySelector('#matrix td:nth-child(3) button').click()")
    assert int(browser.run(count).split()[0]) == cells[1]
    browser.run("document.querySelector('#matrix td:nth-child(3) button').click()")
    browser.run(set_value.format("q", "q: 7", "input"))
    browser.wait("return document.getElementById('count').textContent.startsWith('1 of')")


def test_a_link_opens_its_item(browser: Browser, page: Path) -> None:
    browser.open(page, "#shots=1&seed=1&item=2:3")
    browser.wait("return document.getElementById('detail').textContent.includes('Prompt')")
    detail = browser.run("return document.getElementById('detail').textContent")

    assert "toy, inline, 1 shot, seed 1, example 3" in detail
    assert "Q: 3\nA: ⟦" in detail
    assert browser.run("return document.getElementById('shots').value") == "1"


def test_the_command_for_a_prompt_quotes_the_id_for_the_shell(browser: Browser, tmp_path: Path) -> None:
    id = "$(echo one) `echo two` 'three' \\"
    records = [{"id": id, "n": 1, "label": 0}]
    task = Task.from_records("toy", evaluation=records, prompt="Q: {{ n }}\nA:", options=NAMES, id="id")
    result = evaluate(FakeLM(), task, shots=0, out=tmp_path)
    (tmp_path / "prompts.jsonl").unlink()
    write_report([result], tmp_path / "report.html")
    browser.open(tmp_path / "report.html", f"#item=0:{quote(id)}")
    browser.wait("return document.getElementById('detail').textContent.includes('This command prints it')")

    command = browser.run("return document.querySelector('#detail pre').textContent")
    printed = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines()[-3:] == ["--id", id, "--prompt"]


def test_an_item_shows_the_tokens_of_its_options(browser: Browser, page: Path) -> None:
    browser.open(page, "#shots=1&seed=1&item=2:3")
    browser.wait("return document.querySelectorAll('#detail .tokens').length === 2")
    first = "[...document.querySelector('#detail .tokens').children]"
    texts = browser.run(f"return {first}.map(token => token.firstChild.textContent)")
    values = browser.run(f"return {first}.map(token => +token.lastChild.textContent)")

    assert "".join(texts) == f" {NAMES[0]}"
    assert all(value <= 0 for value in values)


def test_a_key_moves_to_the_next_item(browser: Browser, page: Path) -> None:
    browser.open(page)
    press = "document.getElementById('list').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown'}))"
    browser.run(press)
    browser.run(press)

    rows = browser.run("return [...document.querySelectorAll('.item')].map(row => row.className)")
    assert [index for index, name in enumerate(rows) if "open" in name] == [2]  # after the head and the first


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variants")
    options: dict[str, Any] = {"labels": ["gold", "flipped"], "order": ["drawn", "permutations:2"], "seeds": 2}
    write_report([evaluate(knowing(0, 1), parity(), shots=[0, 2], out=folder, **options)], folder / "report.html")
    return folder / "report.html"


def test_items_of_variants_are_distinguished_and_filtered(browser: Browser, variants: Path) -> None:
    browser.open(variants, "#prompt=inline~labels%3Dflipped")
    rows = "return [...document.querySelectorAll('.item:not(.head) .prompt')].map(each => each.innerText)"

    assert {*browser.run(rows)} == {"inline~labels=flipped"}
    assert browser.run("return getComputedStyle(document.querySelector('.item.head .run')).display") == "none"


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("fixture", ["page", "variants"])
def test_nothing_sticks_out_of_the_page(
    fixture: str, width: int, browser: Browser, request: pytest.FixtureRequest
) -> None:
    browser._post("/window/rect", {"width": width, "height": 900})
    browser.open(request.getfixturevalue(fixture))
    browser.run("[...document.querySelectorAll('.item')].at(-1).click()")
    browser.wait("return document.getElementById('detail').textContent.includes('Prompt')")

    assert browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    browser._post("/window/rect", {"width": 1280, "height": 1000})


def test_a_hundred_thousand_items_open_and_are_filtered_quickly(browser: Browser, tmp_path: Path) -> None:
    from icl_eval.reports.items import ReportRun
    from icl_eval.reports.report import report
    from icl_eval.results.outcomes import outcomes

    result = evaluate(FakeLM(), parity(), shots=0, out=tmp_path)
    some = list(outcomes(tmp_path, result.manifest))
    many = [some[i % len(some)] for i in range(100_000)]
    path = tmp_path / "many.html"
    path.write_text(report([ReportRun("many", result.manifest, result.scores, many, tmp_path, None)]), "utf-8")
    began = time.monotonic()
    browser.open(path)
    opened = time.monotonic() - began
    filtered = browser.run(
        "const began = performance.now(), box = document.getElementById('out'); box.value = '0';"
        "box.dispatchEvent(new Event('change')); return performance.now() - began"
    )

    assert opened < 2 * 5  # seconds; the machine may be busy
    assert filtered < 200 * 5  # milliseconds
    assert browser.run("return document.querySelectorAll('.item').length") < 100
