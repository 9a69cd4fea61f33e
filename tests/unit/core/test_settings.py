"""Where settings come from, and where they do not."""

import pytest

from themisto.errors import MissingSetting
from themisto.settings import Settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    monkeypatch.delenv("THEMISTO_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def test_keyword_beats_environment(monkeypatch):
    monkeypatch.setenv("THEMISTO_URL", "http://environment")
    assert Settings().url == "http://environment"
    assert Settings(url="http://keyword").url == "http://keyword"


def test_a_file_that_came_with_a_clone_does_not_count(tmp_path):
    (tmp_path / "themisto.toml").write_text('url = "http://elsewhere"\n')
    assert Settings().url is None


def test_a_token_is_not_shown():
    assert "secret" not in repr(Settings(token="secret"))


def test_a_missing_url_names_the_verb_and_the_setting():
    with pytest.raises(MissingSetting, match="%deploy needs a workbench, and THEMISTO_URL is not set"):
        Settings().require_url("deploy")
