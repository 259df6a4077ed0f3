import dataclasses
import inspect

import pytest

from training.run.settings import TrainingSettings, settings_signature


def test_a_signature_constructs_the_settings():
    arguments = settings_signature().bind("runs/00000", batch_size=8)
    arguments.apply_defaults()
    assert TrainingSettings(*arguments.args, **arguments.kwargs) == TrainingSettings("runs/00000", batch_size=8)


def test_every_setting_has_a_default_of_its_own():
    assert TrainingSettings().G_kwargs is not TrainingSettings().G_kwargs
    assert all(each.default is not inspect.Parameter.empty for each in settings_signature().parameters.values())


def test_settings_stay_as_they_are():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingSettings().batch_size = 2


def test_what_is_derived():
    assert TrainingSettings(total_kimg=0.5).total_nimg == 500
    assert TrainingSettings().is_main
    assert not TrainingSettings(rank=1).is_main
    assert not TrainingSettings().has_augmentation
    pipe = {"class_name": "x"}
    assert not TrainingSettings(augment_kwargs=pipe).has_augmentation
    assert TrainingSettings(augment_kwargs=pipe, ada_target=0.6).has_augmentation
    assert TrainingSettings(augment_kwargs=pipe, augment_p=0.1).has_augmentation
