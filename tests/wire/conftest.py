"""An environment in which the real client finds made-up keys, and nothing of the machine's own."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from botocore.hooks import EventAliaser
from botocore.loaders import JSONFileLoader, Loader

from tests.authorities import ONE_AUTHORITY


@pytest.fixture(autouse=True, scope="session")
def _models_are_read_once() -> Iterator[None]:
    """Each session of botocore finds and reads the service models anew, half of what a test costs here.

    And each works out the names of its events anew: a tenth.
    """
    read, find = JSONFileLoader.load_file, Loader.list_available_services
    loader, aliaser = JSONFileLoader(), EventAliaser(None)

    @cache
    def found_once(type_name: str, *places: str) -> list[str]:
        services: list[str] = find(Loader(extra_search_paths=places, include_default_search_paths=False), type_name)
        return services

    with pytest.MonkeyPatch.context() as patch:
        read_once = cache(lambda path: read(loader, path))
        patch.setattr(JSONFileLoader, "load_file", lambda self, path: read_once(path))
        patch.setattr(
            Loader, "list_available_services", lambda self, type_name: found_once(type_name, *self.search_paths)
        )
        named_once = cache(aliaser._alias_event_name)
        patch.setattr(EventAliaser, "_alias_event_name", lambda self, name: named_once(name))
        yield


@pytest.fixture(autouse=True)
def aws_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The shared config file, which is not there until a test writes it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASIM0111111111111")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "simulated")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in ONE_AUTHORITY.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "config"
