import pytest
from PIL import Image

from dnnlib.errors import UserError
from training.inference import run_video
from training.inference.video_frames import CAPTION_PX


def save(path, value, size=(64, 32)):
    Image.new("RGB", size, (value, 0, 0)).save(path)


def test_grids_come_in_the_order_of_training(tmp_path):
    for value, name in enumerate(["fakes000010.png", "fakes_init.png", "fakes000004.png"]):
        save(tmp_path / name, value)
    for other in ("reals.png", "fakes_4.png", "fakes.png"):
        save(tmp_path / other, 99)
    grids = run_video.sample_grids(tmp_path)
    assert [(kimg, path.name) for kimg, path in grids] == [
        (0, "fakes_init.png"),
        (4, "fakes000004.png"),
        (10, "fakes000010.png"),
    ]
    frames = list(run_video.sample_frames(grids))
    assert [frame[0, 0, 0] for frame in frames] == [1, 2, 0]
    assert frames[0].shape == (32 + CAPTION_PX, 64, 3)
    assert (frames[1][32:] != frames[2][32:]).any()


def test_a_video_shows_what_the_page_shows(tmp_path):
    for value, name in enumerate(["fakes000000_500.png", "fakes000004.png", "fakes000004_G.png"]):
        save(tmp_path / name, value)
    grids = run_video.sample_grids(tmp_path)
    assert [(run_video.kimg_text(kimg), path.name) for kimg, path in grids] == [
        ("0.5 kimg", "fakes000000_500.png"),
        ("4 kimg", "fakes000004_G.png"),
    ]


def test_large_grids_are_shrunk(tmp_path, monkeypatch):
    monkeypatch.setattr(run_video, "MAX_SIDE_PX", 32)
    save(tmp_path / "fakes000000.png", 50)
    [frame] = run_video.sample_frames(run_video.sample_grids(tmp_path))
    assert frame.shape == (16 + CAPTION_PX, 32, 3)


def test_grids_of_other_sizes_and_damaged_ones_are_told(tmp_path):
    save(tmp_path / "fakes000000.png", 50)
    save(tmp_path / "fakes000001.png", 50, (32, 32))
    with pytest.raises(UserError, match=r"fakes000001\.png is 32x32, the first picture 64x32"):
        list(run_video.sample_frames(run_video.sample_grids(tmp_path)))
    (tmp_path / "fakes000001.png").write_text("text")
    with pytest.raises(UserError, match=r"fakes000001\.png is not an image in a known format"):
        list(run_video.sample_frames(run_video.sample_grids(tmp_path)))


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(UserError, match=r"holds no network-snapshot-\*.pkl: give the folder of a run"):
        run_video.snapshots(tmp_path)


def test_the_run_of_a_snapshot_is_its_folder(tmp_path):
    for name in ("network-snapshot-000004.pkl", "network-snapshot-000010_001.pkl", "network-snapshot-000010.pkl"):
        (tmp_path / name).touch()
    for network in (tmp_path, tmp_path / "network-snapshot-000004.pkl"):
        assert run_video.run_dir_of(str(network)) == tmp_path
    found = [(kimg, path.name) for kimg, path in run_video.snapshots(tmp_path)]
    assert [kimg for kimg, _name in found] == [4, 10, 10.001]
    assert found[1][1] == "network-snapshot-000010.pkl"


def test_a_run_that_is_not_there_is_told(tmp_path):
    for absent in ("typo.pkl", str(tmp_path / "typo"), "https://example.com/network.pkl"):
        with pytest.raises(UserError, match=f"^no such file or folder: {absent}; a video over training needs a run"):
            run_video.run_dir_of(absent)


def test_init_comes_before_the_grid_of_the_same_kimg(tmp_path):
    save(tmp_path / "fakes000000.png", 2)
    save(tmp_path / "fakes_init.png", 1)
    assert [path.name for _kimg, path in run_video.sample_grids(tmp_path)] == ["fakes_init.png", "fakes000000.png"]
