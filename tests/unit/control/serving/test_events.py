"""Events: from the audit chain into the outbox in one transaction, and from there to whoever asked, at least once."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from pathlib import Path

import pytest

from themisto.errors import Refused
from themisto_hub.control.outbox import worker
from themisto_hub.control.outbox.outbox import MAX_ATTEMPTS, backlog
from themisto_hub.control.outbox.tables import DeliveryRow
from themisto_hub.control.outbox.target import Target
from themisto_hub.control.schedules.reports import end_try, pause
from themisto_hub.control.schedules.tables import JobRow, ScheduleRow

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes for these tests").decode()
DOCS = Path(__file__).parents[4] / "docs" / "events.md"


def webhook(listener, **fields):
    return Target(url=listener.url, secret=SECRET, **fields)


@pytest.fixture
def listener(listen):
    return listen()


@pytest.fixture
def told(make_world, listener):
    """A world whose events go to the listener."""
    return make_world(targets=(webhook(listener),))


def rows(world):
    with world.control.db.read() as session:
        found = list(session.query(DeliveryRow).order_by(DeliveryRow.id))
        session.expunge_all()
        return found


def kinds(world):
    return [row.kind for row in rows(world)]


def deliver_all(world):
    for target in world.control.outbox.targets:
        while worker.deliver(world.control, target):
            pass


# what becomes an event


def test_a_rollout_tells_its_steps(told):
    told.live(cell="a")
    told.promoted(cell="b")
    told.rollouts.rollback(told.caller(), "credit", reason="wrong data")
    told.release(cell="c")
    told.progress.failed(told.rollout_id(), "load", "Triton said no")
    assert kinds(told) == [
        "rollout.promoted", "rollout.stepped", "rollout.promoted", "rollout.rolled_back", "rollout.failed",
    ]  # fmt: skip
    stepped, rolled_back = (rows(told)[i].content for i in (1, 3))
    assert (stepped["subject"], stepped["group"], stepped["details"]["weight_pct"]) == ("credit@2", "data-science", 5)
    assert (rolled_back["actor"], rolled_back["message"]) == ("scientist", "wrong data")


def test_what_waits_for_approval_names_its_page_and_a_refusal_its_reason(told):
    told.release(tier="prod")
    rollout = told.rollout_id()
    told.progress.proved(rollout, "32 golden rows repeated")
    _, ticket = told.approvals.open(told.login(), rollout)
    told.approvals.decide(ticket, "refuse", "no challenger")
    waiting, refused = (row.content for row in rows(told))
    assert (waiting["kind"], refused["kind"]) == ("rollout.waiting", "rollout.refused")
    assert waiting["url"] == f"{told.control.settings.review_url}/approve/{rollout}"
    assert refused["message"] == "no challenger"


def test_steps_and_breaches_of_the_analysis_are_told(told):
    told.live()
    rollout = told.rollout_id()
    with told.control.db.write() as session:
        for action, weight in (("rollout.step", 30), ("rollout.breach", 0)):
            after = {"release": "credit@1", "weight_pct": weight, "message": f"weight {weight}"}
            told.control.audit.append(
                session, actor="themisto", action=action, object=f"rollout/{rollout}", group="data-science", after=after
            )
    assert kinds(told)[-2:] == ["rollout.stepped", "rollout.breached"]
    assert rows(told)[-1].content["message"] == "weight 0"


@pytest.mark.parametrize(("action", "kind"), [("rollout.hold", "rollout.held"), ("gate.breached", "gate.breached")])
def test_what_needs_a_person_is_told(told, action, kind):
    told.live()
    after = {"release": "credit@1", "message": "12 requests in 24 hours"}
    with told.control.db.write() as session:
        told.control.audit.append(
            session, actor="themisto", action=action, object="release/credit@1", group="data-science", after=after
        )
    assert kinds(told)[-1] == kind
    assert (rows(told)[-1].content["subject"], rows(told)[-1].content["message"]) == ("credit@1", after["message"])


def job(world, retries=0):
    content = {
        "name": "nightly", "group": "data-science", "notebook": "n.ipynb", "cron": "0 2 * * *", "profile": "cpu-small",
        "snapshot_sha256": "0" * 64, "retries": retries,
    }  # fmt: skip
    now = world.clock()
    with world.control.db.write() as session:
        session.add(
            ScheduleRow(
                name="nightly",
                group_name="data-science",
                owner="scientist",
                content=content,
                snapshot_sha256="0" * 64,
                created_at=now,
                updated_at=now,
            )
        )
        session.flush()
        row = JobRow(
            id="01KAZ6J2Q5T8V9W0X1Y2Z3A4B5", schedule="nightly", due_at=now, group_name="data-science",
            owner="scientist", content=content, snapshot_sha256="0" * 64, state="running", attempt=1, lost=0, waits=0,
            not_before=now, message="", outputs=[],
        )  # fmt: skip
        session.add(row)
    return row


@pytest.mark.parametrize(
    ("how", "retries", "expected"), [("failed", 0, ["job.failed"]), ("succeeded", 0, []), ("failed", 1, [])]
)
def test_a_job_tells_that_it_failed_for_good(told, how, retries, expected):
    made = job(told, retries)
    with told.control.db.write() as session:
        end_try(told.control, session, session.get(JobRow, made.id), how, "a cell raised ValueError")
    assert kinds(told) == expected


def test_a_schedule_tells_that_it_is_paused(told):
    made = job(told)
    with told.control.db.write() as session:
        pause(told.control, session, session.get(JobRow, made.id), "scientist may not schedule any more")
    (row,) = rows(told)
    assert (row.kind, row.content["subject"]) == ("schedule.paused", "nightly")
    assert row.content["message"] == "scientist may not schedule any more"


def test_refusals_and_looks_are_no_events(told):
    told.live()
    before = len(rows(told))
    with pytest.raises(Refused):
        told.rollouts.rollback(told.caller("colleague", "other-team"), "credit")
    told.endpoints.get(told.caller(), "credit")
    assert len(rows(told)) == before


def test_an_event_and_what_it_tells_are_stored_together_or_not_at_all(told):
    told.live()
    before = kinds(told)

    def cut_short():
        with told.control.db.write() as session:
            told.control.audit.append(session, actor="x", action="rollout.failed", object="rollout/x", group="g")
            raise RuntimeError("the power goes")

    with pytest.raises(RuntimeError):
        cut_short()
    assert kinds(told) == before


def test_a_target_gets_what_it_asked_for(make_world, listen):
    targets = (
        webhook(listen(), events=("rollout.failed",)),
        webhook(listen(), events=("rollout.*",), groups=("other-team",)),
        webhook(listen(), events=("job.failed", "rollout.promoted"), groups=("data-science",)),
    )
    world = make_world(targets=targets)
    world.live()
    assert [row.target for row in rows(world)] == [targets[2].key]


# how it is delivered


def docs_reader():
    """The verifying code of the docs, as it stands there."""
    code = re.search(r"```python\n(import base64.*?)```", DOCS.read_text(), re.DOTALL)[1]
    namespace = {}
    exec(code, namespace)
    return namespace["event_in"]


def test_the_docs_code_verifies_what_arrives(told, listener, monkeypatch):
    told.live()
    deliver_all(told)
    (headers, body), event_in = listener.got[0], docs_reader()
    monkeypatch.setattr(time, "time", told.clock.now.timestamp)
    event = event_in(body, headers, SECRET)
    assert (event["kind"], event["subject"], event["id"]) == ("rollout.promoted", "credit@1", headers["webhook-id"])
    with pytest.raises(ValueError, match="not from the workbench"):
        event_in(body.replace(b"credit@1", b"credit@2"), headers, SECRET)
    with pytest.raises(ValueError, match="not from the workbench"):
        event_in(body, headers, "whsec_" + base64.b64encode(b"another secret of thirty-two b").decode())
    monkeypatch.setattr(time, "time", lambda: told.clock.now.timestamp() + 301)
    with pytest.raises(ValueError, match="too old"):
        event_in(body, headers, SECRET)


def test_the_docs_show_an_event_as_it_is(told):
    shown = json.loads(re.search(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)[1])
    told.live()
    assert list(shown) == list(rows(told)[0].content)


def test_what_is_not_accepted_comes_again_with_the_same_id(told, listener):
    told.live()
    listener.status = 500
    deliver_all(told)
    assert [(r.state, r.problem) for r in rows(told)] == [("waiting", "it answered HTTP 500")]
    listener.status = 200
    deliver_all(told)  # not due yet
    assert len(listener.got) == 1
    told.clock.pass_(seconds=6)
    deliver_all(told)
    assert [r.state for r in rows(told)] == ["sent"]
    first, second = (headers["webhook-id"] for headers, _ in listener.got)
    assert first == second


def test_a_sender_that_died_half_way_sends_again(told, listener):
    told.live()
    (target,) = told.control.outbox.targets
    assert told.control.outbox.take(target).attempt == 1  # and then the power goes
    assert told.control.outbox.take(target) is None  # nobody else sends it meanwhile
    told.clock.pass_(minutes=3)
    deliver_all(told)
    assert (rows(told)[0].state, rows(told)[0].attempts, len(listener.got)) == ("sent", 2, 1)


def test_it_is_given_up_in_the_end_and_the_next_is_not_held_up(told, listener):
    told.live(cell="a")
    listener.status = 503
    for _ in range(MAX_ATTEMPTS):
        deliver_all(told)
        told.clock.pass_(hours=1)
    assert [(r.state, r.attempts) for r in rows(told)] == [("failed", MAX_ATTEMPTS)]
    with told.control.db.read() as session:
        state = backlog(session, told.clock())
    assert (state.waiting, state.failed, state.problem) == (0, 1, "it answered HTTP 503")
    listener.status = 204
    told.live(cell="b")
    deliver_all(told)
    assert [r.state for r in rows(told)] == ["failed", "sent"]


def test_gone_is_not_tried_again(told, listener):
    told.live()
    listener.status = 410
    deliver_all(told)
    assert rows(told)[0].state == "failed"


def test_a_redirect_is_not_followed(told, listener, listen):
    elsewhere = listen()
    listener.status, listener.location = 307, elsewhere.url
    told.live()
    deliver_all(told)
    assert (elsewhere.got, rows(told)[0].problem) == ([], "it answered HTTP 307")


def test_nobody_there_is_one_sentence_without_the_address(told, listener, caplog):
    listener.stop()
    told.live()
    with caplog.at_level(logging.DEBUG):
        deliver_all(told)
    assert rows(told)[0].problem.startswith("it cannot be reached: Connect")
    assert "token-in-the-path" not in caplog.text
    assert "whsec_" not in caplog.text


def test_address_and_secret_are_neither_shown_nor_stored(told, listener):
    told.live()
    deliver_all(told)
    (target,) = told.control.outbox.targets
    folder = told.control.settings.folder("control")
    stored = b"".join(f.read_bytes() for f in folder.glob("control.db*"))
    for text in (repr(target), str(target), target.model_dump_json(), target.title):
        assert "token-in-the-path" not in text
        assert SECRET not in text
    assert b"token-in-the-path" not in stored
    assert target.title == "http://127.0.0.1"


def test_a_name_that_leads_to_the_metadata_service_is_not_asked(make_world, monkeypatch):
    import socket

    def resolved(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    world = make_world(targets=(Target(url="https://hooks.bank.example/x", secret=SECRET),))
    world.live()
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    deliver_all(world)
    assert rows(world)[0].problem == "its name leads to a link-local or metadata address"


async def test_a_target_that_hangs_delays_no_other(make_world, listen):
    slow, quick = listen(), listen()
    slow.hangs_s = 3
    world = make_world(targets=(webhook(slow), webhook(quick)))
    running = asyncio.create_task(worker.run(world.control))
    try:
        await asyncio.to_thread(world.live)
        async with asyncio.timeout(20):
            while not quick.got:
                await asyncio.sleep(0.05)
        assert not slow.got
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_chat_is_told_through_apprise(make_world, listen):
    """ntfy's own plug-in, over real HTTP."""
    server = listen()
    server.status = 200
    world = make_world(targets=(Target(url=f"ntfy://127.0.0.1:{server.port}/credit-models"),))
    world.live()
    deliver_all(world)
    assert rows(world)[0].state == "sent"
    sent = json.loads(server.got[0][1])
    assert sent["title"] == "credit@1 is stable"
    assert "group data-science" in sent["message"]


def test_an_address_that_apprise_cannot_read_is_given_up(make_world):
    world = make_world(targets=(Target(url="nothing-of-that-name://x/y"),))
    world.live()
    deliver_all(world)
    assert (rows(world)[0].state, rows(world)[0].problem) == ("failed", "apprise cannot read its address")


def test_what_nobody_is_configured_for_any_more_is_given_up(told):
    told.live()
    told.control.outbox.targets = ()
    told.control.outbox.sweep()
    assert rows(told)[0].problem == "its address is not configured any more"


def test_old_deliveries_are_forgotten(told):
    told.live()
    deliver_all(told)
    told.clock.pass_(days=8)
    told.control.outbox.sweep()
    assert rows(told) == []


def test_without_targets_nothing_is_stored(world):
    world.live()
    assert rows(world) == []
