"""asv's pages of the history: what is not as expected fails, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("typer")

from benchmarks import history_site


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "npm"
    folder.mkdir()
    monkeypatch.setattr(history_site, "FETCHED", folder)
    return folder


def test_an_address_that_is_new_in_asv_fails(tmp_path: Path):
    page = (
        '<a href="https://asv"></a><script src="https://elsewhere/new.js" onerror="f()"></script>'
    )
    (tmp_path / "index.html").write_text(page)
    with pytest.raises(ValueError, match="loads https://elsewhere/new"):
        history_site.load_from_beside(tmp_path)


def test_another_hash_fails_and_is_not_kept(fetched: Path):
    for name in history_site.ARCHIVES:
        (fetched / f"{name}.tgz").write_bytes(b"of somebody else")
    first = next(iter(history_site.ARCHIVES))
    with pytest.raises(ValueError, match=f"{first} has another hash"):
        history_site.fetch()
    assert not (fetched / f"{first}.tgz").exists()


def test_text_that_asv_has_no_more_fails(tmp_path: Path):
    file = tmp_path / "summarylist.js"
    file.write_text("if (change) {")
    with pytest.raises(ValueError, match="0 times, and not once"):
        history_site.replace_once(file, history_site.MARKS, history_site.MARKS_BY_UNIT)


@pytest.mark.usefixtures("fetched")
def test_without_npm_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(history_site.UnavailableError, match="npm did not fetch"):
        history_site.fetch()


def test_nothing_is_left_where_the_history_cannot_be_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history_site, "ROOT", tmp_path)  # no clone of anything
    monkeypatch.setattr(history_site, "fetch", lambda: None)
    pages = tmp_path / "pages"
    pages.mkdir()
    with pytest.raises(history_site.UnavailableError, match="asv did not publish"):
        history_site.publish(pages)
    assert not pages.exists()
