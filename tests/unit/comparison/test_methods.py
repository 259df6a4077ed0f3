"""The grammar of methods."""

import pytest

from comparison.methods import Method, check_common, is_pretrained, parse_methods
from dnnlib.errors import UserError


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("stylegan2", ["--cfg=stylegan2", "--aug=noaug"]),
        ("stylegan2+ada", ["--cfg=stylegan2", "--aug=ada"]),
        ("stylegan2+diffaug", ["--cfg=stylegan2", "--aug=diffaug"]),
        ("stylegan2+aug=ada", ["--cfg=stylegan2", "--aug=ada"]),
        ("projected", ["--cfg=projected"]),
        ("projected+noaug", ["--cfg=projected", "--aug=noaug"]),
        ("msconD+con-weight=0.1", ["--cfg=msconD", "--aug=noaug", "--con-weight=0.1"]),
        ("msconD+ada+scales=1,8", ["--cfg=msconD", "--aug=ada", "--scales=1,8"]),
        ("msconD+trust-pickle", ["--cfg=msconD", "--aug=noaug", "--trust-pickle"]),
        ("stylegan2+resume=a=b+gamma=1", ["--cfg=stylegan2", "--aug=noaug", "--resume=a=b", "--gamma=1"]),
    ],
)
def test_flags(text, flags):
    (method,) = parse_methods(text)
    assert method.flags == flags
    assert method.label == text


def test_a_comma_before_no_cfg_belongs_to_the_value():
    found = parse_methods("msconD+scales=1,8,16+con-weight=0.1,insgen,multiscale+scales=1,stylegan2")
    assert [method.label for method in found] == [
        "msconD+scales=1,8,16+con-weight=0.1",
        "insgen",
        "multiscale+scales=1",
        "stylegan2",
    ]


def test_scales_that_no_method_has_are_refused():
    with pytest.raises(UserError, match="--scales: no method of --cfgs=stylegan2 takes them; name one that does"):
        parse_methods("stylegan2", ["1", "1-8"])


def test_scales_multiply_the_methods_that_have_them():
    found = parse_methods("stylegan2,msconD,multiscale+scales=1", ["1-8", "1-16"])
    assert [method.label for method in found] == [
        "stylegan2",
        "msconD+scales=1-8",
        "msconD+scales=1-16",
        "multiscale+scales=1",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stylegan3", "no configuration 'stylegan3'; choose from auto"),
        ("", "no configuration ''"),
        ("stylegan2,,msconD", "no configuration ''"),
        ("stylegan2,stylegan2", "stylegan2 is listed twice"),
        ("stylegan2+", "not of the form"),
        ("stylegan2+gamma=", "not of the form"),
        ("stylegan2+--gamma=1", "not of the form"),
        ("stylegan2+gamma=1\n2", "not of the form"),
        ("stylegan2+seed=3", "sets --seed, which is common"),
        ("stylegan2+ada+diffaug", "two augmentations"),
        ("stylegan2+ada+aug=noaug", "two augmentations"),
        ("stylegan2+ada=0.7", "'ada=0.7' in 'stylegan2\\+ada=0.7' has a value, but an augmentation takes none"),
        ("stylegan2+help", "sets --help, which is common"),
        ("stylegan2+time=1h", "sets --time, which is common"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        parse_methods(text)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--mirror=1", "--seed=7"], "--extra sets --seed, which compare.py sets itself"),
        (["--kimg", "3"], "--extra sets --kimg"),
        (["-n"], "--extra sets --n,"),
        (["--cfg=stylegan2"], "--extra sets --cfg"),
        (["--glr=1"], r"--extra sets --glr, and so does stylegan2\+diffaug\+glr=0.1"),
        (["--aug=ada"], r"--extra sets --aug, and so does stylegan2\+diffaug"),
    ],
)
def test_what_all_methods_cannot_have_in_common(flags, words):
    with pytest.raises(UserError, match=words):
        check_common(flags, parse_methods("msconD,stylegan2+diffaug+glr=0.1"))


def test_what_all_methods_can_have_in_common():
    check_common(["--small", "--gpus=2", "--mirror", "1", "--aug=ada"], parse_methods("msconD,stylegan2+glr=0.1"))


def test_folders_are_names_and_differ():
    paths = [Method("stylegan2", (("resume", value),)) for value in ("a/b", "a_b", "a?b")]
    folders = [method.folder for method in paths]
    assert len(set(folders)) == 3
    assert folders[1] == "stylegan2+resume=a_b"
    assert not any("/" in folder or "?" in folder for folder in folders)
    assert len(Method("stylegan2", (("resume", "x" * 1000),)).folder) < 128


def test_marks():
    assert is_pretrained("projected")
    assert is_pretrained("projected-fastgan")
    assert not is_pretrained("msconD")
