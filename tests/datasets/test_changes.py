"""Files are recognised by their content: under a new name or time, as copies, and where names were swapped."""

from __future__ import annotations

import os
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.datasets.changes import find_changes
from selavi_ref.datasets.contents import (
    Content,
    quick_digest,
    read_contents,
    stamp_of,
    with_digests,
    write_contents,
)
from selavi_ref.errors import InputError

LARGE = 400_000


def write(path, seed, size=500):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(seed).randbytes(size))
    return str(path)


def known_of(*paths):
    return {c.path: c for c in with_digests([Content(path, stamp_of(path)) for path in paths])}


def here(folder):
    return sorted(str(path) for path in folder.rglob("*.mp4"))


def test_each_kind_of_change_is_recognised(tmp_path):
    paths = [write(tmp_path / f"{name}.mp4", name) for name in "abcdef"]
    known = known_of(*paths)
    a, b, c, d, e, f = paths
    (tmp_path / "sub").mkdir()
    os.rename(a, tmp_path / "sub" / "other.mp4")  # moved, and renamed
    write(tmp_path / "b.mp4", "another")  # changed
    os.unlink(c)  # gone
    shutil.copy(d, tmp_path / "sub" / "d.mp4")  # copied
    os.utime(e, (1, 1))  # only touched
    new = write(tmp_path / "new.mp4", "new")
    found = find_changes(known, here(tmp_path))
    assert found.moved == {str(tmp_path / "sub" / "other.mp4"): a}
    assert found.changed == [b]
    assert found.gone == [c]
    assert found.copied == {str(tmp_path / "sub" / "d.mp4"): d}
    assert sorted(found.unchanged) == [d, e, f]
    assert found.new == [new]
    assert found.counts == {"new": 1, "changed": 1, "moved": 1, "copied": 1, "gone": 1, "unchanged": 3}
    again = find_changes(found.contents, here(tmp_path))
    assert not again.any
    assert again.gone == [c]


def test_swapped_and_rotated_names_are_moves(tmp_path):
    a, b, c = (write(tmp_path / f"{name}.mp4", name) for name in "abc")
    known = known_of(a, b, c)
    for old, new in ((a, "x"), (b, a), (c, b), ("x", c)):
        os.rename(tmp_path / old, tmp_path / new)
    found = find_changes(known, here(tmp_path))
    assert found.moved == {a: b, b: c, c: a}
    assert found.counts["moved"] == sum(found.counts.values())


def test_a_video_that_was_overwritten_by_another_is_dropped(tmp_path):
    a, b = (write(tmp_path / f"{name}.mp4", name) for name in "ab")
    known = known_of(a, b)
    os.replace(b, a)
    found = find_changes(known, here(tmp_path))
    assert found.moved == {a: b}
    assert found.overwritten == [a]
    assert found.counts["gone"] == 1


def test_a_new_video_in_the_place_of_a_moved_one_is_new(tmp_path):
    a = write(tmp_path / "a.mp4", "a")
    known = known_of(a)
    os.rename(a, tmp_path / "b.mp4")
    write(tmp_path / "a.mp4", "something else")
    found = find_changes(known, here(tmp_path))
    assert found.moved == {str(tmp_path / "b.mp4"): a}
    assert found.new == [a]
    assert not found.changed


def test_large_files_that_differ_only_between_the_pieces_are_different(tmp_path):
    a, b = (write(tmp_path / f"{name}.mp4", 1, LARGE) for name in "ab")
    with open(b, "r+b") as file:
        file.seek(100_000)
        file.write(b"other")
    assert quick_digest(a) == quick_digest(b)
    known = known_of(a, b)
    os.rename(a, tmp_path / "z.mp4")
    os.rename(b, tmp_path / "y.mp4")
    found = find_changes(known, here(tmp_path))
    assert found.moved == {str(tmp_path / "z.mp4"): a, str(tmp_path / "y.mp4"): b}
    other = write(tmp_path / "c.mp4", 1, LARGE)
    with open(other, "r+b") as file:
        file.seek(150_000)
        file.write(b"a third")
    assert find_changes(found.contents, here(tmp_path)).new == [other]


def test_without_digests_moved_files_are_found_by_size_and_time(tmp_path):
    a, b = (write(tmp_path / f"{name}.mp4", name) for name in "ab")
    known = {path: Content(path, stamp_of(path)) for path in (a, b)}
    os.rename(a, tmp_path / "c.mp4")
    found = find_changes(known, here(tmp_path))
    assert found.moved == {str(tmp_path / "c.mp4"): a}
    assert found.contents[b].digest == quick_digest(b)


def test_of_equal_files_those_of_the_same_name_are_matched(tmp_path):
    paths = [write(tmp_path / "old" / f"{name}.mp4", "same") for name in "abc"]
    known = known_of(*paths)
    os.rename(tmp_path / "old", tmp_path / "aaa")
    assert find_changes(known, here(tmp_path)).moved == {
        str(tmp_path / "aaa" / f"{name}.mp4"): path for name, path in zip("abc", paths, strict=True)
    }


def test_contents_can_be_read_back_and_move_with_their_folder(tmp_path):
    odd = write(tmp_path / "run" / "a,b\n\udcff.mp4", 1)
    far = write(tmp_path / "far.mp4", 2)
    known = known_of(odd, far)
    write_contents(known, tmp_path / "run" / "contents.csv", tmp_path / "run")
    assert read_contents(tmp_path / "run" / "contents.csv") == known
    assert read_contents(tmp_path / "none.csv") == {}
    os.rename(tmp_path / "run", tmp_path / "elsewhere")
    moved = str(tmp_path / "elsewhere" / "a,b\n\udcff.mp4")
    assert set(read_contents(tmp_path / "elsewhere" / "contents.csv")) == {moved, far}


def test_a_damaged_table_is_refused(tmp_path):
    (tmp_path / "contents.csv").write_text("nonsense\n")
    with pytest.raises(InputError) as error:
        read_contents(tmp_path / "contents.csv")
    assert error.value.path == tmp_path / "contents.csv"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_happens_every_known_content_is_accounted_for_once(tmp_path_factory, data):
    """Random moves, copies, deletions and rewritings: each known row ends in one kind, and each file is explained."""
    folder = tmp_path_factory.mktemp("changes")
    names = [f"{number}.mp4" for number in range(5)]
    kinds = data.draw(st.lists(st.integers(0, 3), min_size=5, max_size=5))
    known = known_of(*(write(folder / name, kind) for name, kind in zip(names, kinds, strict=True)))
    before = {path: quick_digest(path) for path in known}
    for _ in range(data.draw(st.integers(0, 6))):
        source, target = (data.draw(st.sampled_from([*names, "new.mp4", "more.mp4"])) for _ in range(2))
        action = data.draw(st.sampled_from(["move", "copy", "delete", "write"]))
        if action == "write":
            write(folder / target, data.draw(st.integers(0, 6)))
        elif (folder / source).exists() and source != target:
            if action == "move":
                os.replace(folder / source, folder / target)
            elif action == "copy":
                shutil.copy2(folder / source, folder / target)
            else:
                os.unlink(folder / source)
    found = find_changes(known, here(folder))
    kept = [*found.unchanged, *found.moved.values()]
    lost = [*found.gone, *found.overwritten, *found.changed]
    assert sorted([*kept, *lost]) == sorted(known)
    explained = [*found.unchanged, *found.moved, *found.changed, *found.new, *found.copied]
    assert sorted(explained) == here(folder)
    for path, old in found.moved.items():
        assert quick_digest(path) == before[old]
    for path, original in found.copied.items():
        assert quick_digest(path) == quick_digest(original)
    for path in found.unchanged:
        assert quick_digest(path) == before[path]
    assert not find_changes(found.contents, here(folder)).any
