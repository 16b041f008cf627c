"""Tables and figures replace what the program has written, and nothing else."""

from __future__ import annotations

import pytest

from selavi_ref.report.own_files import refuse_foreign
from selavi_ref.report.table import Table
from tests.support.refusal import refused

TABLE = Table("scores", {"name": "name"}, [{"name": "a"}])


@pytest.mark.parametrize("ending", ["png", "svg", "txt", "csv", "json"])
def test_a_file_without_a_table_beside_it_is_of_somebody_else(tmp_path, ending):
    path = tmp_path / f"scores.{ending}"
    path.write_text("mine")
    with refused(path=path, option="--out"):
        TABLE.write(tmp_path / "scores", figures=[tmp_path / "scores"])
    assert path.read_text() == "mine"
    TABLE.write(tmp_path / "scores", figures=[tmp_path / "scores"], force=True)
    TABLE.write(tmp_path / "scores", figures=[tmp_path / "scores"])


def test_further_figures_belong_to_the_table_of_their_name(tmp_path):
    (tmp_path / "scores-loss.png").write_text("mine")
    with refused(path=tmp_path / "scores-loss.png"):
        refuse_foreign(tmp_path / "scores", [tmp_path / "scores", tmp_path / "scores-loss"])
    TABLE.write(tmp_path / "scores")
    refuse_foreign(tmp_path / "scores", [tmp_path / "scores", tmp_path / "scores-loss"])


def test_a_figure_that_is_not_drawn_may_be_of_anybody(tmp_path):
    (tmp_path / "scores.png").write_text("mine")
    TABLE.write(tmp_path / "scores")
    assert (tmp_path / "scores.png").read_text() == "mine"
