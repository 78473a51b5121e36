"""What is sent in the wrong place doesn't come back: no answer and no line of the program log repeats it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from support.brokers import Answer, Caller, RunningBroker, broker, request

pytestmark = pytest.mark.integration
MARK: Final = "s3cret-Marker"
NAME: Final = "digest"
DIGEST: Final = "sha256:" + "0" * 64
PROBLEM_MEMBERS: Final = {"type", "title", "status", "detail", "code"}

POSTS: Final[dict[str, list[str]]] = {
    "/v1/documents/{}": ["envelope"],
    "/v1/documents/roster": ["envelope"],
    "/v1/requests": ["request"],
    "/v1/requests/{}/approvals": ["envelope"],
    "/v1/requests/{}/denials": ["envelope"],
    "/v1/requests/{}/control": [],
    "/v1/requests/{}/seal": ["recipient_key"],
    "/v1/requests/{}/challenges": ["platform"],
    "/v1/requests/{}/release": ["challenge", "platform", "evidence"],
    "/v1/manifests": ["manifest", "request"],
    "/v1/enrolments": ["enrolment"],
    "/v1/enrolments/{}": ["answer"],
    "/v1/chips": ["kind"],
    "/v1/chips/{}": ["evidence"],
    "/v1/requests/{}/leases": ["use", "recipient", "serial", "nonce", "proof"],
}
GETS: Final = (
    "/v1/{}",
    "/v1/requests?state={}",
    "/v1/requests?cursor={}",
    "/v1/requests?{}=1",
    "/v1/requests/{}",
    "/v1/requests/{}/explanation",
    "/v1/manifests/{}/1",
    "/v1/manifests/atlas/{}",
    "/v1/platforms?cursor={}",
    "/v1/attested/{}",
    "/v1/log/entries?start={}",
    "/v1/log/proof/inclusion?index={}&size=1",
    "/v1/log/proof/entries?at={}&size=1",
)

marked: st.SearchStrategy[Json] = st.sampled_from(
    [MARK, {MARK: MARK}, [MARK], {"payloadType": MARK, "payload": MARK, "signatures": [{"keyid": MARK, "sig": MARK}]}]
)
envelopes: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "payloadType": st.just(MARK),
        "payload": st.sampled_from([to_base64(MARK.encode()), to_base64(b'{"v":1}'), MARK]),
        "signatures": st.sampled_from([[], [{"keyid": MARK, "sig": to_base64(MARK.encode())}], [{MARK: MARK}]]),
    }
)
values: st.SearchStrategy[Json] = st.one_of(
    marked, envelopes, st.just(to_base64(MARK.encode())), st.integers(), st.none()
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with broker(tmp_path_factory.mktemp("home")) as started:
        yield started
        assert MARK not in (started.home / "broker.err").read_text()


@pytest.fixture(scope="module")
def callers(running: RunningBroker) -> tuple[Caller, Caller]:
    return running.caller(), running.caller("gpu-1", enclave=True)


def silent(answer: Answer) -> None:
    assert answer.status < 500, answer.text
    assert MARK not in answer.text
    assert to_base64(MARK.encode()) not in answer.text
    assert MARK not in str(answer.headers)
    # Where the bytes had the form that was asked for, the simulated keeper takes what the real one would refuse.
    if answer.status != 200:
        check(answer)


def check(answer: Answer) -> None:
    assert 400 <= answer.status < 500, answer.text
    assert MARK not in answer.text
    assert to_base64(MARK.encode()) not in answer.text
    assert MARK not in str(answer.headers)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json
    assert body.keys() >= PROBLEM_MEMBERS
    assert body["status"] == answer.status
    assert str(body["type"]).startswith("urn:strongroom:problem:")


@settings(max_examples=150)
@given(path=st.sampled_from(sorted(POSTS)), place=st.sampled_from([MARK, DIGEST]), data=st.data())
def test_no_body_comes_back(callers: tuple[Caller, Caller], path: str, place: str, data: st.DataObject) -> None:
    members = POSTS[path]
    body: dict[str, Json] = {name: data.draw(values) for name in members}
    if not members or data.draw(st.booleans()):
        body[MARK] = MARK
    # A route without a body takes none: it reads the path alone.
    for caller in callers:
        silent(caller.post(path.format(place), body))


@pytest.mark.parametrize("path", GETS)
def test_no_path_or_query_comes_back(callers: tuple[Caller, Caller], path: str) -> None:
    for caller in callers:
        check(caller.get(path.format(MARK)))


@pytest.mark.parametrize(
    "raw",
    [
        MARK.encode(),
        b'{"request": "' + MARK.encode(),
        b'{"%b": 1.5}' % MARK.encode(),
        b'{"request": {}, "request": "%b"}' % MARK.encode(),
        b'{"request": ' + b"[" * 100 + b'"%b"' % MARK.encode() + b"]" * 100 + b"}",
        b'{"request": "%b\xff"}' % MARK.encode(),
    ],
    ids=["no-json", "cut", "float", "twice", "deep", "no-utf-8"],
)
def test_no_malformed_json_comes_back(callers: tuple[Caller, Caller], raw: bytes) -> None:
    check(callers[0].call("POST", "/v1/requests", raw=raw))
    answer = callers[0].call("POST", "/v1/requests", raw=raw, headers={"content-type": f"text/{MARK}"})
    check(answer)


def test_no_method_or_header_comes_back(callers: tuple[Caller, Caller]) -> None:
    check(callers[0].call("DELETE", "/v1/state", headers={"x-note": MARK}))


def test_a_fault_names_the_place_but_no_foreign_name(running: RunningBroker, callers: tuple[Caller, Caller]) -> None:
    envelope = dict(request(running.genesis).to_json()) | {MARK: 1, "payload": 5}  # type: ignore[arg-type]
    faults = callers[0].post("/v1/requests", {"request": envelope}).json["faults"]
    told = json.dumps(faults)
    assert '"where": "body.request.payload"' in told
    assert '"where": "body.request.*"' in told


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(callers: tuple[Caller, Caller], *, declared: bool) -> None:
    body = b'{"request": "' + b"A" * (256 * 1024) + b'"}'
    caller = callers[0]
    if declared:
        answer = caller.call("POST", "/v1/requests", raw=body)
    else:
        pieces = iter([body[: 1 << 16]] * 5)
        caller.connection.request(
            "POST", "/v1/requests", body=pieces, headers={"content-type": "application/json"}, encode_chunked=True
        )
        got = caller.connection.getresponse()
        answer = Answer(got.status, dict(got.getheaders()), got.read().decode())
    assert (answer.status, answer.json["code"]) == (413, "body-too-large")
    caller.connection.close()


def test_signed_documents_may_be_larger(callers: tuple[Caller, Caller]) -> None:
    payload = to_base64(b" " * (500 * 1024))
    body: Json = {"envelope": {"payloadType": "t", "payload": payload, "signatures": []}}
    answer = callers[0].post("/v1/documents/policy", body)
    assert answer.status != 413
    check(answer)
