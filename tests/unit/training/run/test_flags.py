"""Flags as they are read from a command line; tests/unit/test_train_cli.py has the help and the mistakes."""

import click
import pytest

import train
from training.run.flags import Flags
from training.run.options import CHANGES


def read(*arguments):
    with train.main.make_context("train.py", list(arguments)) as context:
        return train.read_flags(context)


def test_defaults_are_those_of_the_declarations():
    assert read() == Flags()


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--metrics=None", "metrics", ()),
        ("--metrics= a, b,a,", "metrics", ("a", "b")),
        ("--snap-format=safetensors, pkl", "snap_format", ("safetensors", "pkl")),
        ("--time=1d12h", "time", 129600),
        ("--small", "small", True),
        ("--small=0", "small", False),
        ("--continue=latest", "continue_run", "latest"),
        ("--ada-max-p=inf", "ada_max_p", float("inf")),
        ("--aug=diffaug", "aug", "diffaug"),
        ("--con-weight=2", "settings", {"con_weight": 2}),
    ],
)
def test_values(argument, name, value):
    assert getattr(read(argument), name) == value


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--snap-format=safetensors", "expected pkl or pkl,safetensors, got 'safetensors'"),
        ("--snap-format=pkl,onnx", "expected pkl or pkl,safetensors, got 'pkl,onnx'"),
        ("--metrics=", "it is empty; give names of metrics, or none"),
        ("--metrics= , ", "it is empty; give names of metrics, or none"),
        ("--time=8", "'8' is not a time; give one such as 30m, 8h, 2d or 1d12h"),
    ],
)
def test_values_that_are_refused(argument, said):
    with pytest.raises(click.BadParameter, match=said):
        read(argument)


def test_what_is_given_to_a_run_keeps_its_order_and_leaves_out_the_session():
    flags = read("--progress=none", "--kimg=7", "-n", "--con-weight=2", "--outdir=runs", "--cond=0")
    assert flags.explicit == ("progress", "kimg", "dry_run", "con_weight", "outdir", "cond")
    assert list(flags.given.items()) == [("kimg", 7), ("con_weight", 2), ("cond", False)]


def test_what_may_change_belongs_to_the_run():
    assert Flags(explicit=CHANGES).given.keys() == CHANGES.keys()
