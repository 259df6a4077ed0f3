"""Generators on the hub: what is uploaded and downloaded, and that nothing else is opened; against a local stand-in."""

import json
import re

import numpy as np
import pytest

import package
from package.generator import Generator
from tests import tiny_snapshot
from tests.hub_server import TOKEN, running_hub

REPO = "someone/toy"


@pytest.fixture
def hub(tmp_path):
    with running_hub(str(tmp_path / "cache")) as hub:
        yield hub


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    path = tmp_path_factory.mktemp("snapshot") / "tiny.pkl"
    tiny_snapshot.write(path)
    return package.load(path, device="cpu")


def push(generator: Generator, **kwargs) -> str:
    return generator.push_to_hub(REPO, token=TOKEN, **kwargs)


def test_what_is_pushed_can_be_loaded(hub, generator):
    url = push(generator)
    assert url == f"{hub.url}/{REPO}/commit/{hub.commit(REPO)}"
    loaded = package.from_pretrained(REPO, device="cpu")
    np.testing.assert_array_equal(loaded.sample([1, 2], 0.5), generator.sample([1, 2], 0.5))


def test_a_repository_holds_weights_settings_and_a_card(hub, generator):
    push(generator, license="cc0-1.0", description="Drawn **scenes**, 100 kimg.")
    files = hub.repositories[REPO]
    assert set(files) == {"model.safetensors", "config.json", "README.md"}
    assert json.loads(files["config.json"])["class_name"] == "training.networks.Generator"
    card = files["README.md"].decode()
    metadata = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL).group(1).splitlines()
    assert {"library_name: mscond", "license: cc0-1.0"} <= set(metadata)
    assert "Drawn **scenes**, 100 kimg." in card
    assert f'from_pretrained("{REPO}")' in card


def test_nothing_but_weights_and_settings_is_downloaded(hub, generator):
    push(generator)
    hub.repositories[REPO] |= {"modeling.py": b"raise SystemExit", "network.pkl": b"cos\nsystem\n.", "a.bin": b""}
    package.from_pretrained(REPO, device="cpu")
    assert set(hub.requested) == {"model.safetensors", "config.json"}


def test_a_class_that_is_not_a_generator_is_refused(hub, generator):
    push(generator)
    config = json.loads(hub.repositories[REPO]["config.json"])
    hub.repositories[REPO]["config.json"] = json.dumps({**config, "class_name": "os.system"}).encode()
    with pytest.raises(ValueError, match=r"config\.json: class_name must be one of"):
        package.from_pretrained(REPO, device="cpu")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda files: files.pop("config.json"), "it holds no config.json: it is not a generator"),
        (lambda files: files.clear(), "it holds no config.json and no model.safetensors"),
    ],
)
def test_incomplete_repositories(hub, generator, prepare, message):
    push(generator)
    prepare(hub.repositories[REPO])
    with pytest.raises(ValueError, match=message):
        package.from_pretrained(REPO)


def test_too_large(hub, generator, monkeypatch):
    push(generator)
    monkeypatch.setattr("package.hub.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"its files have \d+ bytes, the limit is 1000"):
        package.from_pretrained(REPO)
    assert not hub.requested


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda generator: package.from_pretrained("nobody/nothing"), "nobody/nothing.*404"),
        (lambda generator: package.from_pretrained("not a/name"), "not a/name"),
        (lambda generator: generator.push_to_hub(REPO, token="wrong"), "someone/toy.*401"),
    ],
)
def test_mistakes_take_one_line(hub, generator, use, message):
    with pytest.raises(ValueError, match=message) as caught:
        use(generator)
    assert "\n" not in str(caught.value)


def test_without_a_server(hub, generator):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ValueError, match="hub repository 'someone/toy'"):
        package.from_pretrained(REPO)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install huggingface_hub"):
        package.from_pretrained(REPO)
