"""Login: the step-up at the identity provider, as an OIDC client of the review page's own.

OpenID Connect Core 1.0, 3.1.2.1 (`prompt=login`, `max_age=0`) and RFC 7636 (PKCE, S256). Groups
come from the userinfo endpoint, so that they are as they are now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import Response

from themisto.errors import Refused, Unavailable
from themisto_hub.control.serving.approvals import Login
from themisto_hub.settings import Deployment, Keys

__all__ = ["LoginFlow"]

_log = logging.getLogger(__name__)
_SKEW_S = 5
_TIMEOUT_S = 10.0
_AGAIN = "Open the review page again and log in."


class LoginFlow:
    """`begin` sends the browser away, `finish` takes it back and says who came."""

    def __init__(self, settings: Deployment, keys: Keys, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        oauth = OAuth()
        self._idp: Any = oauth.register(
            "idp",
            client_id="themisto-review",
            client_secret=keys.oidc_review.get_secret_value() if keys.oidc_review else "",
            server_metadata_url=f"{settings.issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid profile groups",
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": "client_secret_basic",
                "timeout": _TIMEOUT_S,
            },
        )

    async def begin(self, request: Request, *, rollout: str | None) -> Response:
        """Redirect to the provider; for a decision it must ask for the password anew, session or not."""
        request.session.clear()
        request.session.update(rollout=rollout, asked=int(self._clock().timestamp()))
        fresh = {"prompt": "login", "max_age": 0} if rollout else {}
        try:
            response: Response = await self._idp.authorize_redirect(
                request, f"{self._settings.review_url}/callback", **fresh
            )
        except (httpx.HTTPError, AuthlibBaseError, ValueError) as error:
            raise _unavailable(error) from error
        response.headers["Cache-Control"] = "no-store"
        return response

    async def finish(self, request: Request) -> tuple[Login, str | None]:
        """The person and the rollout she came for (None: the list).

        Raises Refused for a login that failed or is not fresh, Unavailable without the provider.
        """
        rollout, asked = request.session.get("rollout"), request.session.get("asked")
        if asked is None:
            raise Refused("This login was not begun here, or was used already.", _AGAIN)
        try:
            token = await self._idp.authorize_access_token(request, leeway=_SKEW_S)
            person: dict[str, Any] = await self._idp.userinfo(token=token)
        except httpx.HTTPError as error:
            raise _unavailable(error) from error
        except (AuthlibBaseError, JoseError, ValueError) as error:
            _log.warning("a login for the review page failed: %s", error)
            raise Refused("The login failed.", _AGAIN) from error
        finally:
            request.session.clear()
        claims = token.get("userinfo") or {}
        return self._login(claims, person, fresh_since=asked if rollout else None), rollout

    def _login(self, claims: dict[str, Any], person: dict[str, Any], *, fresh_since: int | None) -> Login:
        name = person.get("preferred_username")
        if not isinstance(name, str) or not name or person.get("sub") != claims.get("sub"):
            raise Refused("The identity provider does not say who logged in.", "Tell the platform team.")
        at = claims.get("auth_time")
        if fresh_since is not None and (not isinstance(at, int) or at < fresh_since - _SKEW_S):
            raise Refused("The login is not fresh: the password was not asked for.", _AGAIN)
        moment = datetime.fromtimestamp(at, UTC) if isinstance(at, int) else self._clock()
        groups = person.get("groups")
        return Login(name=name, groups=frozenset(groups if isinstance(groups, list) else ()), at=moment)


def _unavailable(error: Exception) -> Unavailable:
    _log.warning("the identity provider does not answer: %s", error)
    return Unavailable("The identity provider does not answer.", "Open the page again in a moment.")
