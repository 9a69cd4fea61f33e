"""The people of the tour: each logs in, uses one server at a time, and may decide on the review page."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urljoin

import httpx
from nbformat import NotebookNode

from themisto.errors import Failed, Refused
from themisto_hub.browser import Browser, Form
from themisto_hub.profiles import load_profiles
from themisto_hub.tour.house import House
from themisto_hub.tour.kernel import RemoteKernel

__all__ = ["People", "Person"]

_CELL_TIMEOUT_S = 300.0


class People:
    """Everybody who may log in, by name; the first is who runs a notebook that names nobody."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.all_profiles = {p.name for p in load_profiles(house.settings.profiles_dir)}
        self._people = {name: Person(house, name, password) for name, password in house.passwords.items()}

    @property
    def first(self) -> Person:
        return next(iter(self._people.values()))

    def __getitem__(self, name: str) -> Person:
        if name not in self._people:
            raise Failed(f"There is no user '{name}'.", f"There are {', '.join(self._people)}.")
        return self._people[name]

    def end_kernels(self) -> None:
        """Shut down every kernel that was started for the notebook that just ended."""
        for person in self._people.values():
            person.end_kernels()


class Person:
    """One person's browser, her server and her kernels."""

    def __init__(self, house: House, name: str, password: str) -> None:
        self.name = name
        self._house = house
        self._password = password
        self._browser = Browser(house.settings.public)
        self._profile: str | None = None
        self._token = ""
        self._kernels: dict[str, tuple[str, RemoteKernel]] = {}

    @property
    def groups(self) -> list[str]:
        groups: list[str] = self._browser.api("GET", f"users/{quote(self.name, safe='')}").json()["groups"]
        return groups

    def log_in(self) -> list[str]:
        """Through the identity provider, once; returns the profiles that the spawn page offers."""
        if not self._browser.user:
            self._browser.login(self.name, self._password)
        return self._browser.profiles()

    def forge_profile(self, profile: str) -> str:
        """Ask for a profile the form does not show. Raises Failed if that is granted."""
        try:
            self._browser.start_server(profile)
        except (Refused, Failed) as error:
            return error.detail
        raise Failed(
            f"{self.name} got a server on {profile}, which was not offered.", "The form must not be the guard."
        )

    def ensure_server(self, profile: str | None) -> None:
        """A running server on `profile`; None: on whatever runs, else on the first one offered."""
        offered = self.log_in()
        if self._profile is not None and profile in (None, self._profile):
            return
        if self._profile is not None:
            self.stop_server()
        chosen = profile or offered[0]
        self._browser.start_server(chosen)
        self._profile = chosen
        self._token = self._browser.server_token()

    def stop_server(self) -> None:
        self.end_kernels(shut_down=False)
        self._browser.stop_server()
        self._profile = None

    def stop_if_running(self) -> None:
        """Stop whatever server of hers runs, also one that she started in another browser."""
        self._browser.stop_server()
        self._profile = None

    def upload(self, path: str, notebook: NotebookNode) -> None:
        """Save a notebook in her home, as Lab does."""
        folder = path.rpartition("/")[0]
        if folder:
            self._api("PUT", f"contents/{quote(folder)}", {"type": "directory"})
        content = json.loads(json.dumps(notebook))
        self._api("PUT", f"contents/{quote(path)}", {"type": "notebook", "content": content})

    def kernel(self, path: str) -> RemoteKernel:
        """The kernel of a notebook's session in her server; started when first asked for."""
        if path not in self._kernels:
            body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
            kernel_id = self._api("POST", "sessions", body)["kernel"]["id"]
            url = self._browser.server_url().replace("http", "ws", 1) + f"api/kernels/{kernel_id}/channels"
            header = [f"Authorization: token {self._token}"]
            self._kernels[path] = kernel_id, RemoteKernel(url, header, timeout_s=_CELL_TIMEOUT_S)
        return self._kernels[path][1]

    def end_kernels(self, *, shut_down: bool = True) -> None:
        for kernel_id, kernel in self._kernels.values():
            kernel.close()
            if shut_down:
                self._api("DELETE", f"kernels/{kernel_id}")
        self._kernels.clear()

    def review(self, endpoint: str, *, approve: bool) -> str:
        """Open the review page, log in anew, read the difference, decide.

        With `approve` False she must be refused: Failed is raised if the page lets her.
        """
        with _ReviewPage(self._house.settings.review_url) as page:
            try:
                rollout = page.waiting_for(endpoint, self.name, self._password)
                shown = page.open_review(rollout, self.name, self._password)
                if not approve:
                    raise Failed(f"{self.name} could open the review of {endpoint}.", "Who asked must not decide.")
                page.approve(shown)
            except Refused as error:
                if approve:
                    raise
                return f"{self.name} is refused on the review page: {error.detail}"
        return f"{self.name} approved {shown.release} after a fresh login, with the difference in front of her"

    def _api(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self._browser.server_url()}api/{path}"
        headers = {"Authorization": f"token {self._token}"}
        try:
            response = httpx.request(method, url, json=body, headers=headers, timeout=60, trust_env=False)
        except httpx.TransportError as error:
            raise Failed(f"{self.name}'s server does not answer: {error!r}.", "See the hub's log.") from error
        if response.status_code >= 400:
            raise Failed(
                f"{self.name}'s server says HTTP {response.status_code} to {method} {path}.", response.text[:300]
            )
        return response.json() if response.content else None


class _Shown:
    """A review page as it was shown."""

    def __init__(self, page: httpx.Response) -> None:
        self.url = str(page.url)
        self.form = Form(page.text)
        heading = re.search(r"<h1>\s*([\w@.-]+)", page.text)
        self.release = heading.group(1) if heading else ""


class _ReviewPage(Browser):
    """The review page in a window of its own: its login is not the hub's."""

    def waiting_for(self, endpoint: str, user: str, password: str) -> str:
        """Path of what waits on `endpoint`. Raises Refused with what the page says."""
        page = self._through_login(self.open("/"), user, password)
        found = re.search(rf'href="(/approve/\w+)">{re.escape(endpoint)}@', page.text)
        if found is None:
            raise Refused(_problem(page) or f"nothing of {endpoint} waits for this person")
        return found.group(1)

    def open_review(self, path: str, user: str, password: str) -> _Shown:
        """The page with the difference; asks for the password again. Raises Refused."""
        page = self._through_login(self.open(path), user, password)
        if page.status_code >= 400:
            raise Refused(_problem(page) or f"HTTP {page.status_code}")
        shown = _Shown(page)
        if "ticket" not in shown.form.fields:
            raise Failed("The review page carries no ticket.", "See the control plane's log.")
        return shown

    def approve(self, shown: _Shown) -> None:
        headers = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        data = {"ticket": shown.form.fields["ticket"], "decision": "approve", "reason": ""}
        answer = self._follow("POST", urljoin(shown.url, "/decide"), data=data, headers=headers)
        if answer.status_code >= 400:
            raise Refused(_problem(answer) or f"HTTP {answer.status_code}")

    def _through_login(self, page: httpx.Response, user: str, password: str) -> httpx.Response:
        form = Form(page.text)
        if form.action is None or "password" not in form.fields:
            return page
        data = {**form.fields, "login": user, "password": password}
        return self._follow("POST", urljoin(str(page.url), form.action), data=data)


def _problem(page: httpx.Response) -> str:
    found = re.search(r'<p id="problem">(.*?)</p>', page.text, re.DOTALL)
    return found.group(1).strip() if found else ""
