import json
import re

import pytest
import safetensors.torch
import torch

from dnnlib.errors import UserError
from tests import tiny_snapshot
from training.inference import stored
from training.inference.stored import StoredVectors, load_vectors, save_vectors


@pytest.fixture
def G():
    return tiny_snapshot.generator()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "directions.safetensors"


def vectors(num=3, w_dim=8):
    return StoredVectors("directions", torch.randn(num, w_dim), torch.rand(num), {"method": "sefa", "layers": [0, 2]})


def test_what_is_written_is_read(path, G):
    saved = vectors()
    save_vectors(path, saved, G)
    loaded = load_vectors(path, "directions", G)
    assert torch.equal(loaded.vectors, saved.vectors)
    assert torch.equal(loaded.deviations, saved.deviations)
    assert loaded.settings == saved.settings


def test_a_tuned_synthesis_network_keeps_them_another_mapping_does_not(path, G):
    save_vectors(path, vectors(), G)
    G.synthesis.b4.const.add_(1)
    G.mapping.w_avg.add_(1)
    load_vectors(path, "directions", G)
    G.mapping.fc0.bias[0] += 1
    with pytest.raises(UserError, match="was made for another network"):
        load_vectors(path, "directions", G)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"text", "cannot be read: .*python edit.py directions writes such files"),
        (b"", "directions.safetensors"),
        (vectors(w_dim=4), r"takes vectors \[K, 8\], the file has \[3, 4\]"),
        (vectors(num=0), r"takes vectors \[K, 8\], the file has \[0, 8\]"),
        (StoredVectors("centers", torch.ones(1, 8), torch.ones(1), {}), "holds 'centers', not directions"),
        (StoredVectors("directions", torch.full([1, 8], torch.nan), torch.ones(1), {}), "not finite"),
        (StoredVectors("directions", torch.ones(2, 8), torch.ones(3), {}), "takes vectors"),
    ],
)
def test_other_files_are_refused(path, G, content, said):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_vectors(path, content, G)
    with pytest.raises(UserError, match=said):
        load_vectors(path, "directions", G)


@pytest.mark.parametrize("settings", ["[]", "[" * 5000, "1e999x"])
def test_damaged_settings_are_refused(path, G, settings):
    metadata = {"kind": "directions", "settings": settings, "mapping_sha256": stored.mapping_sha256(G)}
    data = safetensors.torch.save({"vectors": torch.ones(1, 8), "deviations": torch.ones(1)}, metadata)
    path.write_bytes(data)
    with pytest.raises(UserError, match=re.escape(str(path))):
        load_vectors(path, "directions", G)


@pytest.mark.parametrize("value", [1, torch.nan])
def test_float8_is_read_as_float32(path, G, value):
    """PyTorch has no isfinite for it."""
    metadata = {"kind": "directions", "settings": "{}", "mapping_sha256": stored.mapping_sha256(G)}
    tensors = {name: torch.full(size, value) for name, size in (("vectors", [2, 8]), ("deviations", [2]))}
    path.write_bytes(
        safetensors.torch.save({name: each.to(torch.float8_e4m3fn) for name, each in tensors.items()}, metadata)
    )
    if value == 1:
        loaded = load_vectors(path, "directions", G)
        assert (loaded.vectors.dtype, loaded.deviations.dtype) == (torch.float32, torch.float32)
        assert torch.equal(loaded.vectors, tensors["vectors"])
    else:
        with pytest.raises(UserError, match="contains values that are not finite"):
            load_vectors(path, "directions", G)


def test_missing_and_large_files_are_refused(path, G, monkeypatch):
    with pytest.raises(UserError, match=r"no such file: .*python edit\.py directions writes one"):
        load_vectors(path, "directions", G)
    save_vectors(path, vectors(), G)
    monkeypatch.setattr(stored, "MAX_FILE_BYTES", 100)
    with pytest.raises(UserError, match="is larger than"):
        load_vectors(path, "directions", G)


def test_settings_are_json_in_the_header(path, G):
    save_vectors(path, vectors(), G)
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["settings"]) == {"method": "sefa", "layers": [0, 2]}
