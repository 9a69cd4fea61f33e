"""What is remembered of the hub's answers, and for how long."""

import pytest
from tests.fakes.hub_identity import HubIdentity

from themisto.errors import Refused, Unauthenticated, Unavailable
from themisto_hub.tracking_server.identity import Identities, current_person
from themisto_hub.tracking_server.members import authorize


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def hub():
    with HubIdentity() as hub:
        hub.add("scientist", ["data-science", "a"])
        yield hub


@pytest.fixture
async def identities(hub):
    identities = Identities(hub.api_url, clock=Clock(), timeout_s=2)
    yield identities
    await identities.close()


async def test_an_answer_stands_for_half_a_minute(hub, identities):
    person = await identities.identify("token-of-scientist")
    assert (person.name, person.groups) == ("scientist", ("a", "data-science"))
    hub.add("scientist", ["other"])
    assert (await identities.identify("token-of-scientist")).groups == ("a", "data-science")
    identities._clock.now += 31
    assert (await identities.identify("token-of-scientist")).groups == ("other",)
    assert hub.asked == 2


async def test_a_revoked_token_ends_with_the_next_question(hub, identities):
    await identities.identify("token-of-scientist")
    hub.remove("token-of-scientist")
    identities._clock.now += 31
    with pytest.raises(Unauthenticated):
        await identities.identify("token-of-scientist")


async def test_while_the_hub_is_away_who_was_known_goes_on_for_a_while(hub, identities):
    await identities.identify("token-of-scientist")
    hub.stop()
    identities._clock.now += 200
    assert (await identities.identify("token-of-scientist")).name == "scientist"
    with pytest.raises(Unavailable):
        await identities.identify("new-token")
    identities._clock.now += 200
    with pytest.raises(Unavailable):
        await identities.identify("token-of-scientist")


async def test_an_unknown_token_is_not_asked_about_each_time(hub, identities):
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await identities.identify("nonsense")
    assert hub.asked == 1


async def test_a_services_token_is_not_a_persons(hub, identities):
    hub._models["token-of-scientist"]["kind"] = "service"
    with pytest.raises(Refused):
        await identities.identify("token-of-scientist")


async def test_tokens_are_not_kept(identities):
    await identities.identify("token-of-scientist")
    assert "token-of-scientist" not in repr(identities._known)


def test_without_the_door_nobody_is_authorized():
    assert current_person.get() is None
    assert authorize().status_code == 401
