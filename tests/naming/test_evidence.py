"""Names proposed from words and from class probabilities, against plain NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selavi_ref.naming.evidence import names_from_probabilities, names_from_words
from selavi_ref.naming.proposals import Proposal, ProposalsFile, choose_names, clean_name, ranked
from selavi_ref.naming.texts import describing_words, terms
from tests.support.refusal import refused


def names_of(proposals):
    return {cluster: [one.name for one in several] for cluster, several in proposals.items()}


def plain_correlation(x, member):
    return float(np.corrcoef(x, member)[0, 1]) if np.ptp(x) and member.any() and not member.all() else 0.0


def test_words_that_only_one_cluster_has_are_its_name():
    words = [{"guitar", "clip"}, {"guitar", "clip"}, {"dog", "clip"}, {"dog", "clip", "park"}, {"dog", "park"}]
    found = names_from_words(words, [0, 0, 1, 1, 1])
    assert found[0][0] == Proposal("guitar", 1.0, "files")
    assert found[1][0] == Proposal("dog", 1.0, "files")
    assert "clip" not in names_of(found)[1]  # fewer of its videos have it than of the others


def test_a_word_that_all_videos_have_is_no_name_even_of_two_clusters():
    assert not names_from_words([{"video"}] * 6, [0, 0, 0, 1, 1, 1])
    assert not names_from_words([], [])
    assert not names_from_words([{"a word"}], [0])  # one video is no evidence


def test_a_pair_of_words_stands_for_both():
    words = [{"polar", "bear", "polar bear"}] * 3 + [{"brown", "bear", "brown bear"}] * 3
    assert names_of(names_from_words(words, [0, 0, 0, 1, 1, 1])) == {0: ["polar bear"], 1: ["brown bear"]}


@given(st.lists(st.tuples(st.integers(-1, 3), st.frozensets(st.sampled_from("abcdef"))), max_size=40))
def test_scores_of_words_are_correlations(videos):
    labels, words = [k for k, _ in videos], [described for _, described in videos]
    label = np.array([k for k in labels if k >= 0])
    for cluster, several in names_from_words(words, labels).items():
        assert [one.score for one in several] == sorted((one.score for one in several), reverse=True)
        for one in several:
            has = np.array([one.name in described for k, described in videos if k >= 0], float)
            assert one.score == pytest.approx(plain_correlation(has, label == cluster), abs=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_scores_of_classes_are_correlations_of_their_probability(seed):
    rng = np.random.default_rng(seed)
    N, C = int(rng.integers(1, 40)), int(rng.integers(1, 8))
    logits = rng.normal(size=(N, C)) * 3
    log_prob = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    log_prob[rng.random(N) < 0.2] = np.nan
    labels = rng.integers(-1, 3, N)
    names = [f"class {c}" for c in range(C)]
    use = (labels >= 0) & np.isfinite(log_prob).all(1)
    for cluster, several in names_from_probabilities(log_prob, names, labels, "e", most=C).items():
        for one in several:
            prob = np.exp(log_prob[use, names.index(one.name)])
            assert one.score == pytest.approx(plain_correlation(prob, labels[use] == cluster), abs=2e-3)


def test_class_probabilities_of_another_shape_are_refused():
    with refused(option="names"):
        names_from_probabilities(np.zeros((3, 2)), ["one"], [0, 0, 1], "e")
    with refused(option="labels"):
        names_from_probabilities(np.zeros((3, 2)), ["one", "two"], [0, 0], "e")


def test_words_of_names_folders_and_texts_beside(tmp_path):
    folder = tmp_path / "playing-guitar"
    folder.mkdir()
    files = [str(folder / "IMG_0001.mp4"), str(tmp_path / "myDog2.mp4"), str(tmp_path / "third.mp4")]
    (folder / "IMG_0001.en.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n<i>The strings</i> of a harp\n")
    (tmp_path / "myDog2.info.json").write_text('{"title": "Rex barks", "url": "secret words", "tags": ["puppy"]}')
    (tmp_path / "third.txt").write_text("see https://example.org/hidden 犬\n")
    (tmp_path / "third.json").write_text("{damaged")
    one, two, three = describing_words(files)
    assert {"playing", "guitar", "playing guitar", "img", "strings", "harp"} <= one
    assert not {"the", "of", "00", "guitar img"} & one
    assert {"dog", "rex", "barks", "puppy"} <= two
    assert "secret" not in two
    assert {"third", "犬"} <= three
    assert not {"hidden", "example", "damaged"} & three
    assert describing_words(files, names=False, beside=False) == [frozenset()] * 3
    assert describing_words(["gone/a.mp4", "gone/\udcff.mp4"]) == [frozenset(), frozenset()]
    assert list(terms(["it's", "ROCK \u2019n\u2019 roll"]))


def test_no_name_is_given_twice_or_replaces_another():
    proposals = {
        0: [Proposal("cat", 0.9, "files"), Proposal("tabby", 0.6, "e")],
        1: [Proposal("Cat", 0.8, "files"), Proposal("pet", 0.5, "e")],
        2: [Proposal("dog", 0.7, "files")],
        3: [Proposal("owl", 0.2, "files"), Proposal("ask", None, "program")],
        4: [Proposal("owner", 0.9, "files")],
    }
    assert choose_names(proposals, 0.5, {2: "my dog"}, [0, 1, 2, 3]) == {0: "cat", 1: "pet"}
    assert choose_names(proposals, 0.5, {2: "CAT"}, [0, 1]) == {0: "tabby", 1: "pet"}


def test_proposals_are_kept_by_source(tmp_path):
    file = ProposalsFile.read(tmp_path / "names.json", 3)
    file.replace("consensus", "files", {0: [Proposal("cat", 0.5, "files")], 1: [Proposal("dog", 0.5, "files")]})
    file.replace("consensus", "e", {0: [Proposal("Cat", 0.7, "e"), Proposal("x", None, "e")]})
    file.write()
    again = ProposalsFile.read(tmp_path / "names.json", 3)
    assert again.labellings == file.labellings
    assert again.of("consensus")[0] == [Proposal("Cat", 0.7, "e"), Proposal("x", None, "e")]
    again.replace("consensus", "files", {})
    assert list(again.of("consensus")) == [0]
    assert not ProposalsFile.read(tmp_path / "names.json", 4).labellings  # of other labels
    for content in (
        "{",
        "[]",
        '{"format": "selavi names", "version": 1, "clusters": 3, "labellings": {"c": {"0": [{}]}}}',
    ):
        (tmp_path / "names.json").write_text(content)
        with refused(path=tmp_path / "names.json"):
            ProposalsFile.read(tmp_path / "names.json", 3)


def test_names_are_one_short_line():
    assert clean_name(" a\nb\t\u202ec \ud800") == "a b c"
    assert len(clean_name("x" * 500)) == 200
    assert [
        one.name for one in ranked([Proposal("a", 0.1, "s"), Proposal("b", 0.3, "s"), Proposal("A", 0.2, "t")])
    ] == ["b", "A"]
