"""The schedule of a training: learning rates, steps and self-labellings."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.support.linear_backbone import (
    SETTINGS,
)
from tests.support.refusal import refused


@pytest.mark.parametrize(("n", "batch"), [(2, 64), (3, 2), (7, 2), (65, 64), (97, 64), (1500, 64)])
def test_no_video_is_alone_in_a_batch(n, batch):
    sizes = [len(part) for part in np.array_split(np.arange(n), replace(SETTINGS, batch_size=batch).steps_per_epoch(n))]
    assert min(sizes) >= 2
    assert max(sizes) <= 2 * batch


def test_the_rate_rises_then_falls_and_the_first_step_learns():
    settings = replace(SETTINGS, epochs=10, warmup_epochs=2)
    steps = 10 * settings.steps_per_epoch(300)
    rates = [settings.learning_rate_at(step, 300) for step in range(steps)]
    peak = int(np.argmax(rates))
    assert rates[0] > 0
    assert np.all(np.diff(rates[: peak + 1]) > 0)
    assert np.all(np.diff(rates[peak:]) < 0)
    constant = replace(settings, decay="constant")
    assert constant.learning_rate_at(steps - 1, 300) == settings.learning_rate


def test_the_published_rate_rises_by_epochs_from_its_base_to_as_many_times_as_there_are_processes():
    s = replace(
        SETTINGS,
        decay="constant",
        learning_rate=0.01,
        scale_learning_rate=True,
        warmup_epochs=10,
        warmup_from=1,
        warmup_by="epoch",
    )
    per_epoch = s.steps_per_epoch(64_000, 64)
    assert per_epoch == round(64_000 / (64 * s.batch_size))
    rates = [
        s.learning_rate_at(epoch * per_epoch + step, 64_000, None, 64)
        for epoch in range(12)
        for step in (0, per_epoch - 1)
    ]
    assert np.allclose(rates, np.repeat(0.01 * (1 + 63 * np.minimum(np.arange(12), 10) / 10), 2))
    assert s.learning_rate_at(0, 300) == s.learning_rate_at(10_000, 300) == 0.01


@pytest.mark.parametrize(
    ("field", "value"), [("decay", "linear"), ("epochs", 0), ("learning_rate", math.nan), ("learning_rate", 0.0)]
)
def test_settings_that_do_not_fit_are_named(field, value):
    with refused(option=f"training.{field}"):
        replace(SETTINGS, **{field: value})


def test_labellings_begin_before_the_first_step_and_grow_rare():
    steps = sorted(replace(SETTINGS, epochs=100, labellings=50).labelling_steps(300))
    assert steps[0] == 0
    assert len(steps) == 50
    assert steps[-1] < 100 * SETTINGS.steps_per_epoch(300)
    assert np.all(np.diff(np.diff(steps)) >= -1)


def test_a_stride_leaves_out_labellings_only_until_the_modalities_agree():
    settings = replace(SETTINGS, epochs=100, labellings=50, settle_epochs=10, labelling_stride=3)
    steps = sorted(settings.labelling_steps(300))
    assert sorted(settings.labelling_steps(300, settled=False)) == steps[::3]
    fixed = replace(settings, settle_epochs=0)
    assert fixed.labelling_steps(300, settled=False) == fixed.labelling_steps(300) == set(steps)
