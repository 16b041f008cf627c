"""Videos are found by a text or by a file that was dropped on the page, which is checked, and removed afterwards."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from backbones.encoders.text_search import encode_collection
from selavi_ref.api.page_search import PageSearch
from selavi_ref.browser import search as search_module
from selavi_ref.browser.collection import open_collection
from selavi_ref.browser.map_process import MapMaker
from selavi_ref.browser.server import make_app
from selavi_ref.browser.thumbnails import ThumbnailCache
from selavi_ref.errors import InputError
from tests.browser.test_browser_server import get, post, token_of
from tests.support.browser_run import make_run, make_videos
from tests.support.refusal import refused


class AnySearch:
    """Finds the first videos, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def refusals(self):
        return {"text": "", "file": "no networks"}

    def by_text(self, text, n):
        self.asked.append(text)
        return {"clip": [(1, 0.5), (0, 0.25)]}

    def by_file(self, path, n):
        self.asked.append((path.name, path.read_bytes()))
        if path.read_bytes() == b"bad":
            raise InputError(f"{path} is damaged", path=path)
        return {"video": [(0, 0.123456)], "audio": []}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    make_videos(folder / "videos", 16)
    make_run(folder / "run", folder / "videos")
    return folder


@pytest.fixture
def collection(place, monkeypatch):
    monkeypatch.chdir(place)
    return open_collection("run")


@pytest.fixture
def search():
    return AnySearch()


@pytest.fixture
def client(collection, search, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ExitStack() as stack:
        pictures = stack.enter_context(closing(ThumbnailCache(collection.folder / "pictures", collection.files)))
        maps = stack.enter_context(closing(MapMaker(collection.features_file, collection.folder)))
        yield make_app(collection, pictures, maps, search).test_client()
    assert not list(tmp_path.iterdir()), "something was left behind"


def drop(client, name, content, **headers):
    headers = {"Host": "127.0.0.1:5000", "X-Selavi-Token": token_of(client), **headers}
    return client.post("/api/find/file", query_string={"name": name}, data=content, headers=headers)


def test_a_text_finds_videos(client, search):
    assert get(client, "/data/search.json").json["refusals"] == {"text": "", "file": "no networks"}
    answer = post(client, "/api/find/text", {"text": "a dog"})
    assert answer.json == {"found": [{"by": "clip", "videos": [[1, 0.5], [0, 0.25]]}]}
    assert search.asked == ["a dog"]


@pytest.mark.parametrize("body", [{}, [], {"text": ""}, {"text": "  "}, {"text": 3}, {"text": "a" * 1001}])
def test_what_is_no_text_is_refused(client, search, body):
    assert post(client, "/api/find/text", body).status_code == 400
    assert not search.asked


def test_a_dropped_file_finds_videos(client, search):
    answer = drop(client, "../../My clip <b>.MP4", b"content")
    assert answer.json == {"found": [{"by": "video", "videos": [[0, 0.1235]]}, {"by": "audio", "videos": []}]}
    assert search.asked == [("file.mp4", b"content")]


def test_a_dropped_file_that_cannot_be_read_is_named_as_the_user_knows_it(client):
    answer = drop(client, "holiday.mp4", b"bad")
    assert (answer.status_code, answer.json) == (400, {"error": "holiday.mp4 is damaged"})


@pytest.mark.parametrize("name", ["", "x", "x.txt", "x.py", ".mp4.exe", "x.csv", "x.h5"])
def test_files_of_other_types_are_refused(client, search, name):
    assert drop(client, name, b"content").status_code == 415
    assert not search.asked


def test_an_empty_file_and_one_that_is_too_large_are_refused(client, search, monkeypatch):
    monkeypatch.setattr(search_module, "LARGEST_FILE", 100)
    assert drop(client, "x.mp4", b"").status_code == 400
    assert drop(client, "x.mp4", b"x" * 101).status_code == 413
    assert not search.asked
    assert drop(client, "x.mp4", b"x" * 100).status_code == 200


def test_an_edit_may_not_be_as_long_as_a_file(client, monkeypatch):
    monkeypatch.setattr(search_module, "LARGEST_EDIT", 100)
    assert post(client, "/api/annotate", {"op": "rename", "cluster": 1, "name": "x" * 100}).status_code == 413
    assert post(client, "/api/find/text", {"text": "x" * 100}).status_code == 413


def test_searches_need_the_token_and_the_page_itself(client, search):
    assert drop(client, "x.mp4", b"x", **{"X-Selavi-Token": "wrong"}).status_code == 403
    assert drop(client, "x.mp4", b"x", Origin="http://evil.example").status_code == 403
    assert drop(client, "x.mp4", b"x", Host="evil.example").status_code == 403
    assert post(client, "/api/find/text", {"text": "a"}, **{"X-Selavi-Token": ""}).status_code == 403
    assert not search.asked


def test_the_least_certain_videos_are_proposed(client, collection):
    entropy = collection.labelling("consensus").entropy
    proposed = get(client, "/data/next-consensus.json").json["videos"]
    assert len(proposed) == min(24, int((collection.labelling("consensus").label >= 0).sum()))
    assert [entropy[row] for row in proposed] == sorted(entropy[proposed], reverse=True)
    cluster = int(collection.labelling("consensus").label[proposed[0]])
    post(client, "/api/annotate", {"op": "move", "videos": [proposed[0]], "to": cluster})
    assert proposed[0] not in get(client, "/data/next-consensus.json").json["videos"]
    assert get(client, "/data/next-9.json").status_code == 400
    collection.annotations.file.unlink()


def test_without_networks_and_encoders_the_page_says_what_to_do(collection):
    search = PageSearch(collection)
    assert "--encoder" in search.refusals()["text"]
    with refused():
        search.by_text("a dog", 5)
    with refused():
        search.by_file(Path(collection.files[-4]), 5)


def test_features_of_an_encoder_find_files_by_their_sound(place, collection, tmp_path):
    encode_collection(collection, "logmel")
    search = PageSearch(collection)
    assert search.refusals()["file"] == ""
    assert search.refusals()["text"]
    row = next(row for row, path in enumerate(collection.paths) if "windmill" in path)
    copy = shutil.copy(collection.files[row], tmp_path / "other.mp4")
    found = search.by_file(Path(copy), 5)
    assert set(found) == {"logmel"}
    assert found["logmel"][0][0] == row
    assert found["logmel"][0][1] == pytest.approx(0, abs=1e-3)
    (tmp_path / "text.mp4").write_text("no video")
    with refused(path=tmp_path / "text.mp4"):
        search.by_file(tmp_path / "text.mp4", 5)
