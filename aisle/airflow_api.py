"""A small client of Airflow's REST API, with the generated login."""

from __future__ import annotations

from typing import Any

import httpx

from aisle import airflow_home
from aisle.errors import NotThere, ServiceFailed
from aisle.settings import Settings

ANY = "~"  # Airflow's name for "all DAGs" or "all runs" in an address


class AirflowApi:
    """Answers are dicts as Airflow sends them. Raises ServiceFailed where it does not answer or refuses, NotThere for 404."""

    def __init__(self, settings: Settings):
        self.url = airflow_home.url(settings)
        self.client = httpx.Client(base_url=self.url, timeout=60, transport=httpx.HTTPTransport(retries=2))
        self.token = ""

    def health(self) -> dict[str, Any]:
        """Component -> {"status", …}; needs no login."""
        return self._send("GET", "/api/v2/monitor/health").json()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self.call("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", path, json=body)

    def call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        """With the login's token; an expired one is renewed once."""
        for fresh in (False, True):
            if fresh or not self.token:
                self.token = self._login()
            answer = self._send(
                method, f"/api/v2{path}", headers={"Authorization": f"Bearer {self.token}"}, **how
            )
            if answer.status_code != 401:
                break
        if answer.status_code == 404:
            raise NotThere(f"Airflow has nothing at {path}: {answer.text[:300]}")
        if answer.is_error:
            raise ServiceFailed(
                f"Airflow refused {method} {path} with {answer.status_code}: {answer.text[:500]}"
            )
        return answer.json() if answer.content else {}

    def _login(self) -> str:
        told = {"username": airflow_home.USER, "password": airflow_home.password()}
        answer = self._send("POST", "/auth/token", json=told)
        if answer.is_error:
            raise ServiceFailed(
                f"Airflow does not know the login in {airflow_home.passwords()}: `aisle down`, then `aisle up`"
            )
        return answer.json()["access_token"]

    def _send(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            return self.client.request(method, path, **how)
        except httpx.HTTPError as error:
            raise ServiceFailed(
                f"Airflow does not answer at {self.url} ({error}): `aisle up` starts it"
            ) from None
