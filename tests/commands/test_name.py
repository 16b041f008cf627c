"""`selavi name` and `Run.propose_names`: proposals are saved beside the labels, and nothing is named unasked."""

import json
import shlex
import shutil
import sys

import numpy as np
import pytest

from selavi_ref import Run
from selavi_ref.api import ClassProbabilities
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.runs.run import Run as RunFolder
from tests.support.browser_run import make_run, make_videos
from tests.support.command_line import refused, rows_of, selavi, succeeded
from tests.support.refusal import refused as refused_error


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    make_videos(folder / "videos")
    return make_run(folder / "run", folder / "videos").folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "run")
    return tmp_path


def annotations(place):
    return annotations_of(RunFolder(place / "run"))


def given(place):
    return annotations(place).read().edits_of("consensus").names


def test_proposals_are_saved_and_nothing_is_named(place):
    rows = json.loads(succeeded(selavi("name", "run", "--format", "json")))["rows"]
    assert [row["cluster"] for row in rows] == sorted(
        {int(row["label"]) for row in rows_of("run/labels.csv") if row["label"]}
    )
    assert any(row["proposed"] for row in rows)
    assert not given(place)
    kept = json.loads((place / "run" / "names.json").read_text())
    assert (kept["format"], kept["clusters"]) == ("selavi names", 4)
    assert {one["source"] for several in kept["labellings"]["consensus"].values() for one in several} == {"files"}


def test_accepted_names_never_replace_those_of_a_person(place):
    annotations(place).apply({"op": "rename", "cluster": 1, "name": "mine"})
    succeeded(selavi("name", "run", "--accept", "0"))
    first = given(place)
    assert first[1] == "mine"
    assert len(first) > 1
    assert len({name.casefold() for name in first.values()}) == len(first)
    program = f'{shlex.quote(sys.executable)} -S -c "print(\'{{\\"name\\": \\"better\\", \\"score\\": 1}}\')"'
    succeeded(selavi("name", "run", "--command", program, "--accept", "0"))
    assert {cluster: given(place)[cluster] for cluster in first} == first
    succeeded(selavi("export", "run", "--out", "named.csv"))
    assert {row["name"] for row in rows_of("named.csv") if row["label"] == "1"} == {"mine"}


def test_a_program_receives_each_nameless_cluster(place):
    annotations(place).apply({"op": "rename", "cluster": 2, "name": "done"})
    (place / "name.py").write_text(
        "import json, sys\nfacts = json.load(sys.stdin)\n"
        "open(f'asked-{facts[\"cluster\"]}.json', 'w').write(json.dumps(facts))\nprint('kind', facts['cluster'])\n"
    )
    shown = succeeded(selavi("name", "run", "--no-files", "--command", f"{sys.executable} -S name.py", "--accept", "0"))
    asked = sorted(place.glob("asked-*.json"))
    assert [path.stem for path in asked] == ["asked-0", "asked-1", "asked-3"]
    facts = json.loads(asked[0].read_text())
    assert set(facts) == {"cluster", "videos", "of", "confidence", "examples", "proposals", "names"}
    assert facts["names"] == {"2": "done"}
    assert "kind 0 (program)" in shown
    assert given(place) == {2: "done"}  # an answer without a score is not accepted by itself


def test_the_next_step_is_not_the_one_that_was_just_taken(place):
    (place / "name.py").write_text(
        "import json, sys\ncluster = json.load(sys.stdin)['cluster']\n"
        "print(json.dumps({'name': f'kind {cluster}', 'score': 0.1 if cluster else 1}))\n"
    )
    ask = ["name", "run", "--no-files", "--command", f"{sys.executable} -S name.py"]
    assert "--accept 0.5" in selavi(*ask).stderr
    done = selavi(*ask, "--accept", "0.5")
    assert given(place) == {0: "kind 0"}
    assert "1 cluster " in done.stderr
    assert "--accept 0.5" not in done.stderr


def test_where_all_clusters_have_names_there_is_nothing_to_accept(place):
    succeeded(selavi("name", "run", "--accept", "0"))
    for cluster in range(4):
        annotations(place).apply({"op": "rename", "cluster": cluster, "name": f"kind {cluster}"})
    done = selavi("name", "run", "--command", "no-such-program")  # is not asked
    assert done.exit_code == 0
    assert "all clusters have names" in done.output
    assert "--accept" not in done.output


def test_a_program_that_fails_leaves_what_was_proposed_before(place):
    refused(selavi("name", "run", "--command", "no-such-program"), "no-such-program")
    assert (place / "run" / "names.json").exists()


def test_bad_options_are_refused(place):
    refused(selavi("name", "run", "--head", "9"), "--head")
    refused(selavi("name", "run", "--no-files"), "--encoder")
    refused(selavi("export", "run", "--to", "coco"), "selavi export", "--to")
    refused(selavi("name", "run", "--seconds", "3"), "--seconds")
    refused(selavi("name", "run", "--features", "run/features.h5"), "run/features.h5")
    refused(selavi("name", "run", "--words", "none.txt"), "none.txt")
    (place / "one.txt").write_text("cat\n\n")
    refused(selavi("name", "run", "--words", "one.txt"), "one.txt")
    (place / "two.txt").write_text("cat\ndog\n")
    refused(selavi("name", "run", "--words", "two.txt"), "--encoder")
    refused(selavi("name", "nothing"), "nothing")


def test_from_python(place):
    run = Run.open("run")
    log_prob = np.log(np.where(run.labels[:, None] == [0, 1], 0.9, 0.1)).astype(np.float32)
    classes = ClassProbabilities("mine", ["zero", "one"], run.paths, log_prob)
    found = run.propose_names(files=False, classes=[classes], accept=0.5)
    assert found.accepted == {0: "zero", 1: "one"} == run.names == found.names
    assert found.proposals[0][0].source == "mine"
    assert not run.propose_names(accept=0.99, classes=[classes]).accepted.keys() & {0, 1}
    with refused_error(ValueError, option="classes"):
        run.propose_names(classes=[ClassProbabilities("mine", ["a"], ["x.mp4"], log_prob[:1, :1])])


def test_names_of_a_table_lie_beside_it(place):
    (place / "labels.csv").write_bytes((place / "run" / "labels.csv").read_bytes())
    succeeded(selavi("name", "labels.csv", "--accept", "0"))
    assert (place / "labels.names.json").exists()
    assert (place / "labels.annotations.json").exists()


def test_a_run_is_evaluated_as_people_have_left_it(place):
    plain = json.loads(succeeded(selavi("evaluate", "run", "--format", "json")))
    scores = Run.open("run").evaluate()
    assert {name: plain["rows"][0][name] for name in ("nmi", "ari")} == {name: scores[name] for name in ("nmi", "ari")}
    annotations(place).apply({"op": "merge", "clusters": [0], "into": 1})
    done = selavi("evaluate", "run", "--format", "json", "--clusters", "--heads")
    merged = json.loads(succeeded(done))
    assert len(merged["clusters"]["rows"]) == 3
    assert "run/labels.csv" in done.stderr
    refused(selavi("evaluate", "nothing"), "nothing")
    (place / "empty").mkdir()
    refused(selavi("evaluate", "empty"), "empty")
