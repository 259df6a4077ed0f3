import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests import tiny_snapshot
from training.inference.sampling import synthesize
from training.inference.video_frames import EASINGS, captioned, draw_frames, num_frames, split_walks, sweep, tile, walk

KEYS = torch.from_numpy(np.random.RandomState(0).randn(4, 2, 3)).float()


@pytest.mark.parametrize("easing", EASINGS)
@pytest.mark.parametrize("is_loop", [True, False])
def test_a_walk_passes_its_keys_exactly_and_a_loop_closes(easing, is_loop):
    frames = list(walk(KEYS, 5, is_loop, easing))
    assert len(frames) == num_frames(4, 5, is_loop) == (21 if is_loop else 16)
    for i, key in enumerate(KEYS):
        assert torch.equal(frames[5 * i], key)
    assert torch.equal(frames[-1], KEYS[0] if is_loop else KEYS[3])
    assert not torch.equal(frames[7], frames[8])


@pytest.mark.parametrize(
    ("easing", "way"),
    [("linear", lambda t: t), ("smooth", lambda t: 3 * t**2 - 2 * t**3)],
)
def test_the_way_between_two_keys(easing, way):
    keys = torch.tensor([[[0.0]], [[2.0]]])
    frames = torch.stack(list(walk(keys, 8, False, easing))).flatten().tolist()
    assert frames == pytest.approx([2 * way(i / 8) for i in range(9)])


def test_a_spline_has_no_corners_even_where_a_loop_closes():
    """Its tangent at a key is half the difference of the neighbors."""
    num = 200
    frames = torch.stack(list(walk(KEYS.double(), num, True, "spline")))
    for i in range(4):
        tangent = (KEYS[(i + 1) % 4] - KEYS[i - 1]).double() / 2
        for first, second in ((i * num, i * num + 1), ((i or 4) * num - 1, (i or 4) * num)):
            torch.testing.assert_close((frames[second] - frames[first]) * num, tangent, atol=0.1, rtol=0)


def test_a_sweep_reaches_both_ends_exactly():
    assert sweep(0, 0.7, 3, is_loop=False) == [0, 0.35, 0.7]
    assert sweep(0, 0.7, 3, is_loop=True) == [0, 0.35, 0.7, 0.35, 0]


def test_frames_are_the_images_of_their_cells():
    G = tiny_snapshot.generator()
    ws = torch.randn(2, 3, G.num_ws, G.w_dim)  # 2 walks of 3 frames
    frames = list(draw_frames(G, list(ws), 2, batch_size=1, noise_mode="random", noise_seeds=[5, 6]))
    assert len(frames) == 3
    for frame in range(3):
        cells = [synthesize(G, ws[i, frame][None], "random", [5 + i])[0] for i in range(2)]
        np.testing.assert_array_equal(frames[frame], np.concatenate(cells, axis=1))
    batched = np.stack(list(draw_frames(G, list(ws), 2, 4, "random", [5, 6]))).astype(int)
    assert np.abs(batched - np.stack(frames)).max() <= 1


def test_tiles_go_row_by_row():
    images = [np.full([2, 2, 1], i, np.uint8) for i in (1, 2, 3)]
    np.testing.assert_array_equal(tile(images, 2)[::2, ::2, 0], [[1, 2], [3, 0]])
    np.testing.assert_array_equal(tile(images, 2, rows=3)[::2, ::2, 0], [[1, 2], [3, 0], [0, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_caption_leaves_the_frame_alone(channels):
    frame = np.full([24, 40, channels], 7, np.uint8)
    shown = captioned(frame, "12 kimg")
    np.testing.assert_array_equal(shown[:24], frame)
    assert shown[24:].max() > 200


def test_key_frames_are_divided_into_walks():
    assert split_walks([1, 2, 3, 4, 5, 6], 2) == [[1, 2, 3], [4, 5, 6]]
    for numbers, num_walks in (([1, 2, 3], 2), ([1, 2], 2)):
        with pytest.raises(UserError, match="two or more, not"):
            split_walks(numbers, num_walks)
    with pytest.raises(UserError, match="there is only one"):
        split_walks([1], 1)
