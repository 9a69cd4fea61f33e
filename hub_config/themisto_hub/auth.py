"""Logins of the hub: any OpenID Connect provider, asked again about the person before every start of a server.

What the upstream authenticator leaves open and this one closes: a refresh re-checks the allowed
groups, also for starts that a service asks for; a provider that is down is told apart from a person
it no longer vouches for; two refreshes never use one rotating token twice; logging out of the hub
logs out of the provider.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import defaultdict
from typing import Any
from urllib.parse import urlencode

import httpx
from jupyterhub.apihandlers import APIHandler
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import OAuthLogoutHandler
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential
from tornado.web import HTTPError
from traitlets import Unicode

from themisto.errors import Invalid, Unavailable
from themisto.types import Model
from themisto_hub.refusal import Refusal

__all__ = ["OIDCAuthenticator", "Provider"]

_unreachable: contextvars.ContextVar[bool] = contextvars.ContextVar("unreachable", default=False)


class Provider(Model):
    """Addresses of an OpenID Connect provider."""

    authorize_url: str
    token_url: str
    userdata_url: str
    end_session_url: str = ""

    @classmethod
    def embedded(cls, issuer: str) -> Provider:
        """The one in hub_config/idp: known without asking, so that the hub starts while it is down."""
        return cls(
            authorize_url=f"{issuer}/auth",
            token_url=f"{issuer}/token",
            userdata_url=f"{issuer}/me",
            end_session_url=f"{issuer}/session/end",
        )

    @classmethod
    def discover(cls, issuer: str, *, within_s: float = 60) -> Provider:
        """Any other one, by its discovery document (OpenID Connect Discovery 1.0). Raises Unavailable."""
        found = _discovery(issuer, within_s)
        try:
            return cls(
                authorize_url=found["authorization_endpoint"],
                token_url=found["token_endpoint"],
                userdata_url=found["userinfo_endpoint"],
                end_session_url=found.get("end_session_endpoint", ""),
            )
        except KeyError as error:
            raise Invalid(
                f"The discovery document of {issuer} names no {error}.", "Is it an OpenID provider?"
            ) from None


def _discovery(issuer: str, within_s: float) -> dict[str, Any]:
    patiently = Retrying(
        stop=stop_after_delay(within_s),
        wait=wait_random_exponential(max=5),
        retry=retry_if_exception_type((httpx.HTTPError, ValueError)),
        reraise=True,
    )
    try:
        for attempt in patiently:
            with attempt:
                response = httpx.get(f"{issuer}/.well-known/openid-configuration", timeout=10).raise_for_status()
                found: dict[str, Any] = response.json()
                if found.get("issuer", "").rstrip("/") != issuer:
                    raise ValueError("it is the document of another issuer")
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(
            f"The identity provider {issuer} gives no discovery document: {error!r}.",
            "Check THEMISTO_OIDC_ISSUER, and that the provider runs.",
        ) from error
    return found


class LogoutHandler(OAuthLogoutHandler):  # type: ignore[misc]  # oauthenticator is not typed
    """RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0): the provider's session ends as well."""

    _id_token: str | None = None

    async def default_handle_logout(self) -> None:
        if self.current_user:
            state = await self.current_user.get_auth_state() or {}
            self._id_token = state.get("id_token")
        await super().default_handle_logout()

    async def render_logout_page(self) -> None:
        authenticator = self.authenticator
        if not authenticator.end_session_url:
            await super().render_logout_page()
            return
        query = {
            "client_id": authenticator.client_id,
            "post_logout_redirect_uri": authenticator.post_logout_redirect_uri,
        }
        if self._id_token:
            query["id_token_hint"] = self._id_token
        self.redirect(f"{authenticator.end_session_url}?{urlencode(query)}")


class OIDCAuthenticator(GenericOAuthenticator):  # type: ignore[misc]  # oauthenticator is not typed
    """GenericOAuthenticator whose refresh can be relied on."""

    logout_handler = LogoutHandler

    end_session_url = Unicode(config=True, help="where the provider ends its session; empty: it is left alone")
    post_logout_redirect_uri = Unicode(config=True, help="where the provider sends people back to")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Two refreshes with one rotating token would revoke the grant.
        self._one_refresh: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get_token_info(self, handler: Any, params: Any) -> Any:
        try:
            return await super().get_token_info(handler, params)
        except Exception as error:
            # Upstream takes any failure for "log in again"; a provider that is down says nothing about the person.
            if not 400 <= getattr(error, "code", getattr(error, "status_code", 599)) < 500:
                _unreachable.set(True)
            raise

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        """The person's model as the provider has it now, or False: she must log in again.

        Raises Refusal 503 when the provider does not answer, and 403 with the reason when
        somebody else (a service) asks.
        """
        if handler is not None and not hasattr(handler, "_token_authenticated"):
            handler._token_authenticated = False  # JupyterHub 6.1.1 leaves it unset for cookie requests
        model = await self._refreshed(user, handler, **kwargs)
        reason = ""
        if not model:
            reason = f"the identity provider no longer vouches for {user.name}"
        elif isinstance(model, dict) and not await self.check_allowed(user.name, model):
            reason = f"{user.name} is in no group that may use this hub"
        if not reason:
            return model
        self.log.warning("refresh: %s", reason)
        if isinstance(handler, APIHandler) and handler.current_user is not user:
            raise Refusal(403, reason)
        return False

    async def _refreshed(self, user: Any, handler: Any, **kwargs: Any) -> Any:
        _unreachable.set(False)
        async with self._one_refresh[user.name]:
            try:
                model = await super().refresh_user(user, handler, **kwargs)
            except HTTPError:
                raise
            except Exception:  # whatever the HTTP client raises: upstream re-raises all but 4xx
                self.log.exception("refresh of %s failed", user.name)
                _unreachable.set(True)
                model = False
            if _unreachable.get() and not model:
                raise Refusal(503, "The identity provider does not answer. Try again in a moment.")
            if isinstance(model, dict) and model.get("auth_state"):
                # Inside the lock: the next in line reads the new token.
                await user.save_auth_state(model["auth_state"])
        return model
