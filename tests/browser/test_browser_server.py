"""The page is served to this machine alone, shows nothing but videos, and keeps edits at once."""

from __future__ import annotations

import io
import json
import re
from contextlib import ExitStack, closing

import pytest
from PIL import Image

from selavi_ref.browser import server
from selavi_ref.browser.collection import open_collection
from selavi_ref.browser.map_process import MapMaker
from selavi_ref.browser.server import make_app
from selavi_ref.browser.thumbnails import ThumbnailCache
from tests.support.browser_run import ODD, K, make_run, make_videos


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    make_videos(folder / "videos")
    make_run(folder / "run", folder / "videos")
    return folder


@pytest.fixture
def collection(place, monkeypatch):
    monkeypatch.chdir(place)
    yield open_collection("run")
    (place / "run" / "annotations.json").unlink(missing_ok=True)


@pytest.fixture
def client(collection):
    with ExitStack() as stack:
        pictures = stack.enter_context(closing(ThumbnailCache(collection.folder / "pictures", collection.files)))
        maps = stack.enter_context(closing(MapMaker(collection.features_file, collection.folder)))
        yield make_app(collection, pictures, maps).test_client()


def get(client, url, host="127.0.0.1:5000", **headers):
    return client.get(url, headers={"Host": host, **headers})


def token_of(client):
    page = get(client, "/").get_data(as_text=True)
    result = json.loads(re.search(r'id="page">(.*?)</script>', page, re.DOTALL)[1])
    assert result["mode"] == "served"
    return result["token"]


def post(client, url, body, **headers):
    headers = {"Host": "127.0.0.1:5000", "X-Selavi-Token": token_of(client), **headers}
    return client.post(url, json=body, headers=headers)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_other_names_of_this_machine_are_refused(client, host):
    for url in ("/", "/data/collection.json", "/media/thumbnail/0.webp", "/static/app.js"):
        assert get(client, url, host).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost:5000", "localhost", "[::1]:5000", "LOCALHOST:9"])
def test_this_machine_is_served_also_through_a_tunnel(client, host):
    assert get(client, "/data/collection.json", host).status_code == 200


def test_pages_of_other_origins_are_refused(client):
    for origin in ("http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1:5000", "null", "file://"):
        assert get(client, "/data/collection.json", Origin=origin).status_code == 403
        assert post(client, "/api/annotate", {"op": "undo"}, Origin=origin).status_code == 403
    assert get(client, "/data/collection.json", Origin="http://127.0.0.1:5000").status_code == 200
    for site in ("cross-site", "same-site"):
        assert get(client, "/media/video/0", **{"Sec-Fetch-Site": site}).status_code == 403
    assert get(client, "/", **{"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_edits_need_the_token_of_the_page(client, collection):
    edit = {"op": "rename", "cluster": 1, "name": "x"}
    for token in ("", "wrong", "\u00e9"):
        refused = post(client, "/api/annotate", edit, **{"X-Selavi-Token": token})
        assert refused.status_code == 403
        assert "token" in refused.json["error"]
    assert not collection.annotations.file.exists()
    assert post(client, "/api/annotate", edit).status_code == 200


def test_every_answer_says_that_nothing_else_may_be_loaded(client):
    for url in ("/", "/data/collection.json", "/media/thumbnail/0.webp", "/nowhere"):
        answer = get(client, url)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "url",
    [
        "/media/video/../../etc/passwd",
        "/media/video/..%2f..%2f..%2fetc%2fpasswd",
        "/media/video//etc/passwd",
        "/media/thumbnail/-1.webp",
        "/media/video/-1",
        "/media/video/9999",
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/index.html",
        "/static//etc/passwd",
        "/data/labelling-..%2f..%2fx.json",
        "/data/labelling-7.json",
        "/data/video/9999.json",
        "/etc/passwd",
    ],
)
def test_there_is_no_way_out_of_the_collection(client, url):
    answer = get(client, url)
    assert answer.status_code == 404
    assert b"root:" not in answer.data


def test_a_listed_file_that_is_no_video_is_not_served(client, collection):
    row = collection.paths.index("/etc/passwd")
    assert get(client, f"/media/video/{row}").status_code == 404
    assert get(client, f"/media/preview/{row}.mp4").status_code == 404
    assert get(client, f"/data/video/{row}.json").json["file"]["exists"] is False


def test_a_video_is_served_in_parts(client, collection):
    with open(collection.files[0], "rb") as file:
        content = file.read()
    whole = get(client, "/media/video/0")
    assert whole.data == content
    assert whole.mimetype == "video/mp4"
    part = get(client, "/media/video/0", Range="bytes=100-199")
    assert part.status_code == 206
    assert part.data == content[100:200]


def test_every_video_has_a_thumbnail_if_only_one_that_says_why_not(client, collection):
    for row in range(len(collection)):
        answer = get(client, f"/media/thumbnail/{row}.webp")
        assert answer.status_code == 200
        with Image.open(io.BytesIO(answer.data)) as picture:
            assert picture.format == "WEBP"
            assert picture.height == 128
            assert picture.width % 12 == 0
    assert get(client, "/media/preview/0.mp4").data[4:8] == b"ftyp"
    assert get(client, f"/media/preview/{len(collection) - 2}.mp4").status_code == 404


def test_edits_are_in_the_file_when_they_are_answered(client, collection):
    answer = post(client, "/api/annotate", {"op": "rename", "cluster": 1, "name": "<b>dogs</b>"})
    assert answer.json["labellings"]["consensus"]["names"] == {"1": "<b>dogs</b>"}
    assert "<b>dogs</b>" in collection.annotations.file.read_text()
    answer = post(client, "/api/annotate", {"op": "move", "videos": [0, 2], "to": "new", "name": "cats"})
    assert answer.json["labellings"]["consensus"]["moved"] == {"0": K, "2": K}
    assert get(client, "/data/annotations.json").json == answer.json
    assert post(client, "/api/annotate", {"op": "undo"}).json["redo"] == "move 2 videos to a new cluster 'cats'"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"op": "rename", "cluster": 99, "name": "x"}, 400),
        ({"op": "move", "videos": [9999], "to": 1}, 404),
        ({"op": "move", "videos": ["0"], "to": 1}, 400),
        ({"op": "move", "videos": 0, "to": 1}, 400),
        ({"op": "wrong", "videos": [True], "wrong": True}, 400),
        ([1], 400),
        ({"op": "merge", "clusters": [[1]], "into": 0}, 400),
        ({"op": "rename", "labelling": ["x"], "cluster": 1, "name": ""}, 400),
        ({}, 400),
    ],
)
def test_an_edit_that_does_not_fit_is_answered_in_one_line(client, collection, body, status):
    answer = post(client, "/api/annotate", body)
    assert answer.status_code == status
    assert answer.json["error"]
    assert "\n" not in answer.json["error"]
    assert not collection.annotations.file.exists()


def test_what_another_window_has_done_is_not_taken_back(client, collection):
    first = post(client, "/api/annotate", {"op": "rename", "cluster": 0, "name": "a"}).json
    second = post(
        client, "/api/annotate", {"op": "rename", "cluster": 1, "name": "b", "revision": first["revision"]}
    ).json
    answer = post(client, "/api/annotate", {"op": "undo", "revision": first["revision"]})
    assert answer.status_code == 409
    assert answer.json["annotations"] == second
    assert post(client, "/api/annotate", {"op": "undo", "revision": second["revision"]}).status_code == 200


def test_videos_of_all_names_are_served(client, collection):
    names = [row for row, path in enumerate(collection.paths) if any(path.endswith(name) for name in ODD)]
    assert len(names) == len(ODD)
    for row in names:
        with open(collection.files[row], "rb") as file:
            assert get(client, f"/media/video/{row}").data == file.read()


def test_a_player_that_asks_for_all_that_follows_gets_a_piece(client, collection, monkeypatch):
    monkeypatch.setattr(server, "_PIECE", 1000)
    with open(collection.files[0], "rb") as file:
        content = file.read()
    got, answer = b"", None
    while len(got) < len(content):
        answer = get(client, "/media/video/0", Range=f"bytes={len(got)}-")
        assert answer.status_code == 206
        assert answer.headers["Content-Range"].startswith(f"bytes {len(got)}-")
        assert len(answer.data) <= 1000
        got += answer.data
    assert got == content
    assert get(client, "/media/video/0", Range=f"bytes={len(content)}-").status_code == 416


def test_what_is_no_json_is_refused(client):
    headers = {"Host": "127.0.0.1", "X-Selavi-Token": token_of(client)}
    for kind, body in (
        ("text/plain", b"{}"),
        ("application/json", b"{"),
        ("application/x-www-form-urlencoded", b"a=1"),
    ):
        answer = client.post("/api/annotate", data=body, content_type=kind, headers=headers)
        assert answer.status_code in (400, 415)
        assert answer.json["error"]


def test_labels_are_downloaded_with_what_was_said(client, collection):
    post(client, "/api/annotate", {"op": "rename", "cluster": 0, "name": "dogs"})
    answer = get(client, "/api/export/labels.csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert b"dogs" in answer.data
    assert b"dogs" in get(client, "/api/export/labels.json").data
    assert get(client, "/api/export/labels.parquet").data[:4] == b"PAR1"
    assert b"dogs" not in get(client, "/api/export/labels.csv?labelling=1").data
    assert get(client, "/api/export/labels.exe").status_code == 404
    assert get(client, "/api/export/labels.csv?labelling=9").status_code == 400


def test_a_folder_of_links_is_made_in_the_run(client, place):
    answer = post(client, "/api/export/links", {"labelling": "consensus"})
    assert answer.json["folder"] == str(place / "run" / "labelled")
    assert any(path.is_symlink() for path in (place / "run" / "labelled").rglob("*.mp4"))
    assert answer.json["missing"] == 1
    assert post(client, "/api/export/links", {}).status_code == 200
    assert post(client, "/api/export/links", {"labelling": ["x"]}).status_code == 400


def test_proposed_names_are_read_anew(client, place):
    assert get(client, "/data/proposals.json").get_json() == {}
    file = place / "run" / "names.json"
    one = {"name": "cat", "score": 0.5, "source": "files"}
    kept = {"format": "selavi names", "version": 1, "clusters": K, "labellings": {"consensus": {"1": [one]}}}
    file.write_text(json.dumps(kept))
    assert get(client, "/data/proposals.json").get_json() == {"consensus": {"1": [one]}}
    file.write_text("damaged")
    assert get(client, "/data/proposals.json").status_code == 400
    file.unlink()
