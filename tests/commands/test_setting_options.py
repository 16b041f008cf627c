"""Options made from settings: what their help shows as defaults is what a run gets."""

from __future__ import annotations

import re

import pytest

import cli
from backbones.commands.help_text import shown
from backbones.data.settings import ClipSettings
from backbones.runs.presets import SETTING_PATHS, run_settings
from selavi_ref.runs.setting_fields import published


def train_options():
    """The options of `selavi train` that are settings, with the defaults that they show."""
    for option in cli.main.get_command(None, "train").params:
        defaults = re.search(r"\[default: (.*)\]", getattr(option, "help", None) or "")
        if option.name in SETTING_PATHS and defaults:
            usual, _, published_value = defaults[1].partition("; published: ")
            yield option.name, usual, published_value or usual


def value_at(settings, path):
    for name in path.split("."):
        settings = settings[name]
    return settings


@pytest.mark.parametrize(("name", "usual", "published_value"), list(train_options()))
def test_the_help_of_train_shows_the_defaults_of_both_presets(name, usual, published_value):
    small = run_settings(5000, clusters=10).to_dict()
    paper = run_settings(5000, clusters=10, preset="published").to_dict()
    exact = r"[\w.-]+"
    if re.fullmatch(exact, usual):
        assert usual == shown(value_at(small, SETTING_PATHS[name]))
    if re.fullmatch(exact, published_value):
        assert published_value == shown(value_at(paper, SETTING_PATHS[name]))


def test_published_clips_are_those_that_the_published_networks_are_made_for():
    assert run_settings(5000, clusters=10, preset="published").backbone.clip == published(ClipSettings)


def test_groups_are_in_the_order_of_need():
    help_text = cli.main.get_command(None, "train").get_help(cli.main.make_context("selavi", ["train"]))
    titles = ["Main options", "Data", "Networks", "Clusters", "Schedule", "Resources", "Output", "Messages"]
    assert re.findall(r"^(\w[\w ]+):$", help_text, re.MULTILINE) == [*titles, "Examples"]


def test_bounds_of_options_are_those_of_the_settings():
    options = {option.name: option for option in cli.main.get_command(None, "train").params}
    assert (options["dropout"].type.min, options["dropout"].type.max, options["dropout"].type.max_open) == (0, 1, True)
    assert options["batch_size"].type.min == 2
    assert options["decay"].type.choices == ("cosine", "constant")
