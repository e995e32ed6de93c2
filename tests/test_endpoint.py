"""The client of a server, against a server that fails on purpose."""

import asyncio
import datetime
import json
import ssl

import pytest
from fault_server import CUT, FaultServer, chat, completion

from data_preprocess.command import InputError, RunError
from eval_hh.inference import endpoint
from eval_hh.inference.endpoint import KEY, Client, Passing, Refused, check_url, read_reply

SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(endpoint, "LONGEST_PAUSE", 0.02)
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.delenv(KEY, raising=False)


def ask(url, kind="completions", body=None, most=None):
    async def once():
        async with Client(url) as client:
            return await client.ask(kind, body or {"prompt": "x"}, most)

    return asyncio.run(once())


PASSING_FAULTS = {
    "429 storm": (429, {"error": "slow down"}, {"Retry-After": "0"}),
    "500": (500, {"error": "boom"}, {}),
    "503 of a proxy": (503, b"<html>busy</html>", {}),
    "half an answer": CUT,
    "a body that cannot be unpacked": (200, b"plain", {"Content-Encoding": "gzip"}),
    "malformed JSON": b'{"choices": [{"text": "a',
    "deep JSON": b"[" * 100_000,
    "no choices": {"error": "what"},
    "empty choices": {"choices": []},
    "a text that is none": {"choices": [{"text": 5}]},
    "a list": [1],
}


@pytest.mark.parametrize("fault", PASSING_FAULTS.values(), ids=PASSING_FAULTS)
def test_what_may_pass_is_asked_again(fault, capsys):
    with FaultServer(lambda path, body, number: fault if number < 3 else completion("well")) as server:
        assert ask(server.url).texts == ["well"]
        assert len(server.bodies) == 4
    assert capsys.readouterr().err.count("waiting:") == 1


def test_what_does_not_pass_is_one_line(monkeypatch):
    monkeypatch.setattr(endpoint, "PATIENCE", 0.5)
    with FaultServer(lambda path, body, number: (429, {}, {})) as server:
        with pytest.raises(
            RunError, match=r"localhost:\d+/v1: answers 429, for \d+ s \(run the same command to resume"
        ):
            ask(server.url)


def test_a_server_that_asks_for_a_longer_pause_gets_it(monkeypatch):
    pauses = []

    async def pause(self, seconds):
        pauses.append(seconds)

    monkeypatch.setattr(Client, "_pause", pause)
    answers = [
        (429, {}, {"Retry-After": "7"}),
        (429, {}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        completion("a"),
    ]
    with FaultServer(lambda path, body, number: answers[number]) as server:
        ask(server.url)
    assert pauses[0] == 7 and pauses[1] < 0.03


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, Refused, "answers 400: no such field"),
        (401, InputError, r"answers 401: \$ENDPOINT_API_KEY is not set"),
        (404, InputError, "answers 404.*address up to /v1, --endpoint_model a model that it serves"),
        (302, InputError, "answers 302"),
    ],
)
def test_what_cannot_pass_is_said_at_once(status, kind, message):
    with FaultServer(lambda path, body, number: (status, b"no such\nfield", {"Location": "/v1/other"})) as server:
        with pytest.raises(kind, match=message) as found:
            ask(server.url)
        assert len(server.bodies) == 1
    assert "\n" not in str(found.value)


def test_the_key_is_sent_and_said_nowhere(monkeypatch, capsys):
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", "another service's")
    with FaultServer(lambda path, body, number: (401, {"error": f"Incorrect key {SECRET}"}, {})) as server:
        with pytest.raises(InputError, match="ENDPOINT_API_KEY is not accepted") as found:
            ask(server.url)
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(found.value) + "".join(capsys.readouterr())


@pytest.mark.parametrize("key", ["sk-very\nsecret", "sk-very\x1bsecret", "sk-vérysecret"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_said(key, monkeypatch, capsys):
    monkeypatch.setenv(KEY, key)
    with FaultServer(lambda path, body, number: completion("a")) as server:
        for call in (ask, endpoint.reach):
            with pytest.raises(InputError, match=r"^\$ENDPOINT_API_KEY: expected a key of printable ASCII") as found:
                call(server.url)
            assert "secret" not in str(found.value) + "".join(capsys.readouterr())
        assert not server.bodies


def test_https_to_a_server_of_http_is_not_called_a_certificate():
    with FaultServer(lambda path, body, number: completion("a")) as server:
        with pytest.raises(InputError, match=r"--endpoint https://.*WRONG_VERSION_NUMBER.*expected a running server"):
            endpoint.reach(server.url.replace("http:", "https:"))


def test_no_server_at_the_start_is_said_at_once():
    with FaultServer(lambda path, body, number: completion("a")) as server:
        url = server.url
    with pytest.raises(
        InputError, match=r"--endpoint http://localhost:\d+/v1: ConnectError.*expected a running server"
    ):
        endpoint.reach(url)


@pytest.mark.parametrize("status", [200, 404, 405, 500])
def test_a_server_that_lists_no_models_is_reached(status):
    with FaultServer(lambda path, body, number: completion("a")) as server:
        server.models_status = status
        endpoint.reach(server.url)
        assert server.asked == ["/v1/models"]


def test_a_key_that_is_not_accepted_is_said_at_once():
    with FaultServer(lambda path, body, number: completion("a")) as server:
        server.models_status = 401
        with pytest.raises(InputError, match="ENDPOINT_API_KEY is not set"):
            endpoint.reach(server.url)


def test_a_certificate_that_nobody_signed_is_refused(tmp_path):
    cryptography = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = cryptography.Name([cryptography.NameAttribute(cryptography.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = cryptography.CertificateBuilder(name, name, key.public_key(), cryptography.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    alternative = cryptography.SubjectAlternativeName([cryptography.DNSName("localhost")])
    certificate = builder.add_extension(alternative, False).sign(key, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "both.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    server = FaultServer(lambda path, body, number: completion("a"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server:
        with pytest.raises(InputError, match="its certificate cannot be verified"):
            ask(server.url)
        assert not server.bodies


@pytest.mark.parametrize(
    "value",
    ["localhost:8000", "ftp://a/v1", "http://", "http:///v1", "http://a:99999/v1", "http://a:x/v1", "http://a/v1?key=1",
     "http://a/v1#x", "file:///etc/passwd", "http://[::1/v1", "http://a\x00b/v1", "http://a b/v1", "http://é..x/v1", "http://1.2.3.999/v1",
     "http://a/" + "v" * 65_515],
)  # fmt: skip
def test_addresses_that_are_none(value):
    with pytest.raises(InputError, match="--endpoint.*expected an address like"):
        check_url("endpoint", value)


def test_an_address_with_a_password_is_not_repeated():
    with pytest.raises(InputError, match="holds a name or password") as found:
        check_url("endpoint", f"https://me:{SECRET}@host/v1")
    assert SECRET not in str(found.value)


def test_replies_are_read_as_the_protocol_has_them():
    found = read_reply(completion("a", "b", prompt_tokens=3), "completions")
    assert (found.texts, found.prompt_tokens, found.completion_tokens) == (["a", "b"], 3, 2)
    assert read_reply(chat("a", None), "chat/completions").texts == ["a", ""]
    odd = {**completion("a"), "usage": {"prompt_tokens": -1, "completion_tokens": "9"}}
    assert read_reply(odd, "completions").prompt_tokens is None
    with pytest.raises(Passing):
        read_reply(completion("a"), "chat/completions")


def test_half_a_character_is_what_a_tokenizer_decodes_it_to():
    """JSON can escape a lone surrogate, which no file can hold; a pair is a character."""
    with FaultServer(lambda path, body, number: b'{"choices": [{"text": "a\\ud83d b\\ud83d\\ude00"}]}') as server:
        assert ask(server.url).texts == ["a\ufffd b\U0001f600"]
    assert read_reply(chat("\udfff"), "chat/completions").texts == ["\ufffd"]


def test_a_server_that_ignores_max_tokens_is_named():
    def answer(path, body, number):
        return {**completion("a"), "usage": {"prompt_tokens": 1, "completion_tokens": 9}}

    with FaultServer(answer) as server:
        assert ask(server.url, most=9).texts == ["a"]
        with pytest.raises(RunError, match="ignores max_tokens: 9 new tokens"):
            ask(server.url, most=8)


def test_a_body_is_json(tmp_path):
    with FaultServer(lambda path, body, number: completion("a")) as server:
        ask(server.url, body={"prompt": [1, 2], "stop": ["Human:"]})
        assert json.dumps(server.bodies[0]) == '{"prompt": [1, 2], "stop": ["Human:"]}'
