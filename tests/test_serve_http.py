"""The HTTP service, asked by a real client through a real socket."""

import asyncio
import signal

import httpx
import pytest
from metrics_snapshots import INTENSITY, beginning, snapshot

from carbon_nas.serve.http import HttpService, application, bind
from carbon_nas.serve.metrics import registry_of


async def served(questions, *, listen="127.0.0.1:0", now=snapshot, health=lambda: {"ok": True}):
    """Serve, ask every (method, path, headers), and give the answers."""
    listener = bind(listen)
    host = listener.getsockname()[0]
    address = f"http://[{host}]" if ":" in host else f"http://{host}"
    service = HttpService(application(registry_of(now), health), listener)
    service.start()
    try:
        async with httpx.AsyncClient(base_url=f"{address}:{listener.getsockname()[1]}") as client:
            return [
                await client.request(method, path, headers=headers) for method, path, headers in questions
            ]
    finally:
        await service.stop()


def ask(path, method="GET", headers=None, **served_with):
    [answer] = asyncio.run(served([(method, path, headers)], **served_with))
    return answer


def test_metrics_are_served_as_text_for_prometheus():
    answer = ask("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert f"{INTENSITY}{{" in answer.text
    assert " 123.5\n" in answer.text


def test_and_as_openmetrics_for_who_asks():
    answer = ask("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_an_unknown_intensity_has_no_sample():
    assert f"{INTENSITY}{{" not in ask("/metrics", now=beginning).text


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
def test_health_is_told_by_the_status_and_explained(ok, status):
    answer = ask("/healthz", health=lambda: {"ok": ok, "tick_age_seconds": 1.5, "grid": "fresh"})
    assert answer.status_code == status
    assert answer.json() == {"ok": ok, "tick_age_seconds": 1.5, "grid": "fresh"}


def test_health_is_asked_anew_each_time():
    states = iter([True, False, True])
    questions = [("GET", "/healthz", None)] * 3
    answers = asyncio.run(served(questions, health=lambda: {"ok": next(states)}))
    assert [answer.status_code for answer in answers] == [200, 503, 200]


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics/x", "/healthz/", "/..%2fetc/passwd"])
def test_there_is_nothing_else(path):
    answer = ask(path)
    assert answer.status_code in {404, 307}
    assert "carbon_nas_" not in answer.text


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_read_only(path, method):
    assert ask(path, method).status_code == 405


def test_a_defect_in_one_answer_does_not_end_the_service():
    def broken():
        raise RuntimeError("a defect")

    questions = [("GET", "/healthz", None), ("GET", "/metrics", None)]
    one, two = asyncio.run(served(questions, health=broken))
    assert (one.status_code, two.status_code) == (500, 200)
    assert "a defect" not in one.text


def test_ipv6_is_served_too():
    try:
        answer = ask("/healthz", listen="[::1]:0")
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert answer.status_code == 200


def test_a_taken_address_is_an_error_at_once():
    with bind("127.0.0.1:0") as taken, pytest.raises(OSError, match="in use"):
        bind(f"127.0.0.1:{taken.getsockname()[1]}")


def test_the_address_is_free_again_after_the_stop():
    with bind("127.0.0.1:0") as probe:
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    for _ in range(2):
        assert ask("/healthz", listen=listen).status_code == 200


def test_signals_stay_the_daemons():
    async def serve():
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        service = HttpService(application(registry_of(snapshot), lambda: {"ok": True}), bind("127.0.0.1:0"))
        service.start()
        await asyncio.gather(*[asyncio.to_thread(int) for _ in range(3)])
        during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        await service.stop()
        return before, during

    before, during = asyncio.run(serve())
    assert before == during
