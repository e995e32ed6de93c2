"""labelling/rank.py: what it saves and refuses, and a session in a browser whose server is killed in the middle."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_preprocess import prepare
from data_preprocess.command import InputError
from data_preprocess.preparing.candidates import responses_digest
from labelling.rank import RankConfig, Rankings, RankServer, check_columns, load

REPOSITORY = Path(__file__).resolve().parents[1]
BAD_TEXT = '<script>document.title = "taken"</script><img src="https://example.org/a.png" onerror="alert(1)"> & </p>'
TEXTS = [["Boil it.", BAD_TEXT, "No."], ["Yes.\n\nNo.", "Perhaps."], ["a", "b"], ["c", "d"]]
ROWS = [{"id": f"p{i}", "prompt": f"Question {i}? {BAD_TEXT}", "completions": texts} for i, texts in enumerate(TEXTS)]


@pytest.fixture
def source(tmp_path) -> str:
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps({**row, "topic": "food"}) + "\n" for row in ROWS))
    return str(path)


@pytest.fixture
def served(source, tmp_path):
    """A server of the pool in a thread: (its rankings, a function that asks it)."""
    rankings = Rankings(load(source)[0], tmp_path / "out" / "rankings.jsonl")
    server = RankServer(0, rankings, ())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]

    def ask(method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Content-Type": "application/json", "Host": f"127.0.0.1:{port}"} | {
            name.replace("_", "-"): value.replace("PORT", str(port)) for name, value in headers.items()
        }
        connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return answer.status, json.loads(
            content
        ) if answer.headers.get_content_type() == "application/json" else content

    ask.port = port
    yield rankings, ask
    server.shutdown()
    server.server_close()


RANKING = {"annotator": "ann", "id": "p0", "ranking": [["2"], ["0", "1"]]}


def test_a_ranking_is_on_disk_when_it_is_confirmed(served):
    rankings, ask = served
    assert ask("POST", "/rank", RANKING) == (200, {"done": 1, "left": 3})
    digest = responses_digest(TEXTS[0])
    assert json.loads(rankings.path.read_text()) == {
        "id": "p0", "annotator": "ann", "ranking": [["2"], ["0", "1"]], "digest": digest
    }  # fmt: skip
    status, shown = ask("GET", "/prompt?annotator=ann")
    assert (status, shown["index"], shown["done"], shown["total"]) == (200, 1, 1, 4)
    assert ask("GET", "/prompt?annotator=bob")[1]["index"] == 0
    assert ask("GET", "/prompt?annotator=ann&index=0")[1]["ranking"] == RANKING["ranking"]
    assert shown["columns"] == {}


def test_fields_of_the_row_are_shown_when_asked_for(source, tmp_path):
    """A field may say which model wrote what: none is shown unasked."""
    pool = load(source)[0]
    assert Rankings(pool, tmp_path / "r.jsonl", columns=("topic",)).shown("ann", 0)["columns"] == {"topic": "food"}
    check_columns(("topic",), pool)
    with pytest.raises(InputError, match="--columns topics: no such field .expected one of: topic"):
        check_columns(("topics",), pool)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("")])
def test_a_file_that_another_program_changed_is_not_added_to(served, change):
    """The rankings before would be missing in what looks like a whole file."""
    rankings, ask = served
    assert ask("POST", "/rank", RANKING)[0] == 200
    change(rankings.path)
    status, answer = ask("POST", "/rank", {**RANKING, "id": "p1", "ranking": ["1", "0"]})
    assert status == 400 and "shortened or deleted by another program" in answer["error"]
    assert not rankings.path.exists() or not rankings.path.read_text()


def test_a_published_data_set_is_read_by_its_recipe():
    pool, notes = load(str(REPOSITORY / "tests/fixtures/recipes/nectar.jsonl"))
    assert len(pool[0].responses) == 7 and any("nectar" in note for note in notes)


def test_people_share_the_work(source, tmp_path):
    """Two per prompt: whoever comes third is asked for none, and may still change what they ranked."""
    rankings = Rankings(load(source)[0], tmp_path / "r.jsonl", per_prompt=2)
    for name in ("ann", "bob"):
        for index in rankings.left(name)[:2]:
            one = rankings.pool[index]
            rankings.add(name, one.meta["id"], [str(i) for i in range(len(one.responses))])
    assert rankings.left("ann") == rankings.left("bob") == rankings.left("cat") == [2, 3]
    rankings.add("ann", "p0", ["1", "0", "2"])
    assert (rankings.done("ann"), len(rankings.path.read_text().splitlines())) == (2, 5)
    again = Rankings(rankings.pool, rankings.path, per_prompt=3)
    assert again.left("cat") == [0, 1, 2, 3] and again.given["ann", "p0"] == [["1"], ["0"], ["2"]]


def test_each_person_sees_the_responses_in_an_order_of_their_own(served):
    _, ask = served
    orders = [
        [one["name"] for one in ask("GET", f"/prompt?annotator={name}&index=0")[1]["responses"]]
        for name in ("ann", "ann", *map(str, range(20)))
    ]
    assert orders[0] == orders[1] and len(set(map(tuple, orders))) > 3
    assert all(sorted(order) == ["0", "1", "2"] for order in orders)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"annotator": ""}, "--annotator '': expected a name"),
        ({"annotator": None}, "annotator is None"),
        ({"annotator": "a\nb"}, "expected a name"),
        ({"id": "p9"}, "id 'p9' .expected the id of a prompt of the pool"),
        ({"id": ["p0"]}, "unhashable|expected the id"),
        ({"ranking": [["0"], ["1"]]}, "expected each of the 3 responses once"),
        ({"ranking": [["0"], ["1"], ["1"]]}, "expected each answer once"),
        ({"ranking": None}, "ranking is None"),
        ({"ranking": [[["0"]], {"1": 2}]}, "ranking is"),
    ],
)
def test_what_is_no_ranking_is_refused_and_not_saved(served, change, message):
    rankings, ask = served
    status, answer = ask("POST", "/rank", {**RANKING, **change})
    assert status == 400 and re.search(message, answer["error"])
    assert not rankings.path.exists()


@pytest.mark.parametrize(
    "method, path, body, headers, expected",
    [
        ("POST", "/rank", RANKING, {"Origin": "https://example.org"}, 403),
        ("POST", "/rank", RANKING, {"Origin": "null"}, 403),
        ("POST", "/rank", RANKING, {"Host": "example.org"}, 403),
        ("GET", "/prompt?annotator=ann", None, {"Host": "example.org:PORT"}, 403),
        ("GET", "/", None, {"Host": "192.168.0.1:PORT"}, 403),
        ("POST", "/rank", RANKING, {"Content_Type": "text/plain"}, 415),
        ("POST", "/rank", b"x" * 70_000, {}, 400),
        ("POST", "/rank", b"[1]", {}, 400),
        ("POST", "/rank", b"\xff", {}, 400),
        ("POST", "/rank", b"[" * 60_000, {}, 400),
        ("POST", "/rank", RANKING, {"Content_Length": "1" * 5000}, 400),
        ("GET", "http://[", None, {}, 404),
        ("GET", "/prompt?annotator=ann&after=x", None, {}, 400),
        ("POST", "/other", RANKING, {}, 400),
        ("GET", "/../rank.py", None, {}, 404),
        ("GET", "/prompt?annotator=ann&index=4", None, {}, 400),
        ("GET", "/prompt?annotator=ann&index=x", None, {}, 400),
        ("GET", "/prompt", None, {}, 400),
        ("POST", "/rank", RANKING, {"Origin": "http://localhost:PORT", "Host": "localhost:PORT"}, 200),
    ],
)
def test_only_its_own_page_is_answered(served, method, path, body, headers, expected):
    rankings, ask = served
    assert ask(method, path, body, **headers)[0] == expected
    assert rankings.path.exists() == (expected == 200)


def test_a_full_disk_is_told_and_leaves_no_half_line(served, monkeypatch):
    rankings, ask = served
    ask("POST", "/rank", RANKING)
    before = rankings.path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, answer = ask("POST", "/rank", {**RANKING, "id": "p1", "ranking": ["0", "1"]})
    assert status == 507 and answer["error"] == f"{rankings.path}: No space left on device"
    assert rankings.path.read_bytes() == before and rankings.done("ann") == 1


def test_a_line_that_a_killed_server_did_not_finish_is_cut(served, source):
    rankings, ask = served
    ask("POST", "/rank", RANKING)
    whole = rankings.path.read_bytes()
    for rest in (b'{"id": "p1", "anno', b"{"):
        rankings.path.write_bytes(whole + rest)
        again = Rankings(load(source)[0], rankings.path)
        assert again.done("ann") == 1 and rankings.path.read_bytes() == whole


def test_the_first_line_of_a_killed_server_is_cut(source, tmp_path):
    path = tmp_path / "r.jsonl"
    for rest in (b"{", b'{"id": "p', b'{"id": "p1", "annotator": "Zo\xc3'):
        path.write_bytes(rest)
        assert Rankings(load(source)[0], path).given == {} and path.read_bytes() == b""


@pytest.mark.parametrize("end", [b"", b" ", b"\r", b"\t \r"])
def test_a_whole_ranking_is_kept_whatever_blanks_end_it(served, source, end):
    """They are no line that a killed server did not finish: the page has confirmed it."""
    rankings, ask = served
    ask("POST", "/rank", RANKING)
    content = rankings.path.read_bytes().rstrip() + end
    rankings.path.write_bytes(content)
    again = Rankings(load(source)[0], rankings.path)
    assert again.given == {("ann", "p0"): [["2"], ["0", "1"]]} and rankings.path.read_bytes() == content
    again.add("ann", "p1", ["1", "0"])
    assert len(Rankings(load(source)[0], rankings.path).given) == 2


def test_a_ranking_is_added_after_an_editor_left_out_the_last_line_end(served, source):
    rankings, ask = served
    ask("POST", "/rank", RANKING)
    rankings.path.write_bytes(rankings.path.read_bytes().rstrip())
    assert ask("POST", "/rank", {**RANKING, "id": "p1", "ranking": "1 > 0"})[0] == 200
    again = Rankings(load(source)[0], rankings.path)
    assert again.given == {("ann", "p0"): [["2"], ["0", "1"]], ("ann", "p1"): [["1"], ["0"]]}


def test_a_skipped_prompt_comes_again_after_the_others(served):
    _, ask = served
    assert ask("GET", "/prompt?annotator=ann&after=0")[1]["index"] == 1
    ask("POST", "/rank", {**RANKING, "id": "p1", "ranking": ["0", "1"]})
    assert [ask("GET", f"/prompt?annotator=ann&after={index}")[1]["index"] for index in (0, 1, 3)] == [2, 2, 0]


def test_a_name_in_another_case_is_not_another_person(served):
    _, ask = served
    ask("POST", "/rank", {**RANKING, "annotator": "Zoë"})
    for other in ("ZO%C3%8B", "Zoe%CC%88"):  # the last is a decomposed form, as macOS writes file names
        status, answer = ask("GET", f"/prompt?annotator={other}")
        assert (status, "expected 'Zoë', as it was written before" in answer["error"]) == (400, True)
    assert ask("GET", "/prompt?annotator=Zo%C3%AB")[1]["done"] == 1


def test_a_ranking_by_another_program_needs_no_digest(source, tmp_path):
    """As the README's loop writes them; the page gets them in its own form."""
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**RANKING, "ranking": "2 > 1 = 0"}) + "\n")
    assert Rankings(load(source)[0], path).given == {("ann", "p0"): [["2"], ["1", "0"]]}


@pytest.mark.parametrize(
    "row, message",
    [
        ({"digest": "0"}, "r.jsonl:1: prompt p0 had other responses then"),
        ({"id": "x"}, "r.jsonl:1: id 'x'"),
        ({"annotator": 3}, "r.jsonl:1: annotator is 3"),
        ({"ranking": ["0"]}, "r.jsonl:1: ranking is .'0'. .expected each of the 3 responses once"),
    ],
)
def test_a_file_of_another_pool_is_refused(source, tmp_path, row, message):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**RANKING, "digest": responses_digest(TEXTS[0]), **row}) + "\n")
    with pytest.raises(InputError, match=message):
        Rankings(load(source)[0], path)


@pytest.mark.parametrize(
    "content",
    [
        b"a thesis",
        b"x\n{",
        b'{"id": "p9"}',
        b'{"id": "p9"}\n{"id": "p',
        b"[1]",
        b'{"id": "my only notes',
        b'{"id": "p1", x',
    ],
)
def test_somebody_elses_file_stays_as_it_is(source, tmp_path, content):
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"r\.jsonl:"):
        Rankings(load(source)[0], path)
    assert path.read_bytes() == content


def test_pools_that_cannot_be_ranked(tmp_path):
    for texts, message in ((["a"], "1 responses .expected at least two"), (list("abcdefghij"), "has 10 responses")):
        path = tmp_path / "one.jsonl"
        path.write_text(json.dumps({"prompt": "x", "completions": texts}) + "\n")
        with pytest.raises(InputError, match=message):
            load(str(path))
    with pytest.raises(InputError, match="--port 70000"):
        RankConfig(source="x", output=tmp_path / "o.jsonl", port=70000)


class Session:
    """rank.py in a process of its own, which can be killed and started again on the same port."""

    def __init__(self, source: str, output: Path):
        self.command = [sys.executable, REPOSITORY / "labelling" / "rank.py", source, "--output", output]
        self.port = 0

    def start(self) -> str:
        self.process = subprocess.Popen(
            [*self.command, "--port", str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return found[0]
        raise AssertionError(self.process.stderr.read())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.mark.slow
def test_keys_in_a_browser(browser, served, tmp_path):
    """A tie that waits is undone first, "=" before any rank is none, and a French keyboard needs no Shift."""
    rankings, ask = served
    tab = browser.new_page()
    tab.goto(f"http://127.0.0.1:{ask.port}")
    tab.fill("#name", "ann")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".card")
    for keys, ranks in (
        (["=", "1", "2"], ["rank 1", "rank 2", ""]),
        (["=", "Backspace", "3"], ["rank 1", "rank 2", "rank 3"]),
        (["Backspace", "=", "3"], ["rank 1", "rank 2", "rank 2"]),
        (["Backspace", "Backspace"], ["rank 1", "", ""]),
    ):
        for key in keys:
            tab.keyboard.press(key)
        assert tab.locator(".place").all_inner_texts() == ranks
    assert tab.inner_text("#status") == ""
    french = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'é', code: 'Digit2'}))"
    tab.evaluate(french)
    assert tab.locator(".place").all_inner_texts() == ["rank 1", "rank 2", ""]
    tab.close()


def press(tab, *keys):
    for key in keys:
        tab.keyboard.press(key)


@pytest.mark.slow
def test_a_session_in_a_browser_survives_a_killed_server(browser, source, tmp_path):
    output = tmp_path / "rankings.jsonl"
    session = Session(source, output)
    tab = browser.new_page(viewport={"width": 1100, "height": 800})
    told, asked = [], []
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    try:
        url = session.start()
        tab.goto(url)
        tab.fill("#name", "ann")
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".card")
        assert BAD_TEXT in tab.inner_text("#prompt") and tab.title() == "Rank the responses"
        assert sorted(tab.locator(".card .text").all_inner_texts()) == sorted(TEXTS[0])
        shown = tab.locator(".card .text").all_inner_texts()
        tab.screenshot(path=tmp_path / "rank.png")
        press(tab, "2", "1", "=", "3")
        assert tab.locator(".place").all_inner_texts() == ["rank 2", "rank 1", "rank 2"]
        press(tab, "Enter")
        tab.locator("#who", has_text="prompt 2 of 4, 1 ranked").wait_for()
        place = {text: str(index) for index, text in enumerate(TEXTS[0])}
        first = json.loads(output.read_text())
        assert first["ranking"] == [[place[shown[1]]], [place[shown[0]], place[shown[2]]]]

        session.kill()  # with the second prompt half ranked
        press(tab, "1", "2", "Enter")
        tab.wait_for_selector("#status.trouble")
        assert "Not saved yet" in tab.inner_text("#status")
        assert session.start() == url
        tab.locator("#who", has_text="prompt 3 of 4, 2 ranked").wait_for()
        session.kill()  # after a confirmed answer
        session.start()
        tab.reload()
        tab.fill("#name", "ann")
        tab.click("text=Start")
        tab.locator("#who", has_text="prompt 3 of 4, 2 ranked").wait_for()
        tab.keyboard.press("ArrowLeft")
        tab.locator("#who", has_text="prompt 2 of 4").wait_for()
        assert tab.locator(".place").all_inner_texts() == ["rank 1", "rank 2"]
    finally:
        session.kill()
        tab.close()
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["annotator"], row["id"]) for row in rows] == [("ann", "p0"), ("ann", "p1")]
    own = f"http://127.0.0.1:{session.port}/"
    assert told == [] and all(url.startswith(own) for url in asked if "data:" not in url)
    prepare.main(["--source", source, "--join", str(output), "--dev_rows", "0", "--ranking_len", "2"])
    assert (tmp_path / "data" / "original" / "hh_train_len2" / "train.json").is_file()
