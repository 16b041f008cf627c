"""Settings fields: bounds and choices are checked where they stand, and published values make published settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from selavi_ref.errors import InputError
from selavi_ref.runs.setting_fields import check_settings, described, published, setting, settings_of


@dataclass(frozen=True)
class Oven:
    size: int = field(metadata=described("Size", minimum=1))
    heat: float = setting(180.0, help="Heat", unit="degrees", above=0, maximum=300, option="heat", published=200.0)
    fan: bool = setting(False, help="Fan", option="fan")
    mode: str = setting("bake", help="Mode", choices=("bake", "grill"))
    part: float = setting(0.5, help="Part", minimum=0, below=1)
    name: str = setting("", help="Name")

    def __post_init__(self) -> None:
        check_settings(self, "oven.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0),
        ("size", 1.5),
        ("size", True),
        ("size", "2"),
        ("heat", 0),
        ("heat", 301),
        ("heat", math.nan),
        ("heat", math.inf),
        ("heat", "hot"),
        ("heat", [1, 2]),
        ("fan", 1),
        ("mode", "fry"),
        ("part", 1.0),
        ("part", -0.1),
        ("name", 3),
    ],
)
def test_a_value_that_does_not_fit_is_named(name, value):
    with pytest.raises(InputError) as error:
        Oven(**{"size": 1, name: value})
    assert error.value.option == f"oven.{name}"
    assert error.value.value is value


def test_values_that_fit_are_taken_as_they_are():
    assert Oven(2, heat=300, part=0).heat == 300


def test_published_values_are_those_of_the_fields():
    assert published(Oven, size=3) == Oven(3, heat=200.0)


def test_the_description_has_the_unit():
    described_as = {item.name: details.description for item, details in settings_of(Oven)}
    assert described_as["heat"] == "Heat, in degrees."
    assert described_as["fan"] == "Fan."


def test_the_option_is_named_where_there_is_no_prefix():
    @dataclass
    class Plain:
        heat: float = setting(1.0, help="Heat", minimum=0, option="how-hot")

    with pytest.raises(InputError) as error:
        check_settings(Plain(-1.0))
    assert error.value.option == "--how-hot"
