"""Scenes: always the same, and what is said of them is so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from triathlon.training.errors import RunError
from triathlon.training.supervised.pictures.cutout_sources import EMOJI_CLASSES, emoji_folder, read_cutouts, read_photos
from triathlon.training.supervised.pictures.cutout_task import read_whole
from triathlon.training.supervised.pictures.cutouts import LIGHT, SMALLEST_SHARE, Composer, Scene, Scenes


def disc(colour: tuple[int, int, int]) -> Image.Image:
    pixels = np.zeros((20, 20, 4), np.uint8)
    rows, columns = np.mgrid[:20, :20] - 9.5
    pixels[..., :3] = colour
    pixels[..., 3] = np.where(rows**2 + columns**2 < 100, 255, 0)
    return Image.fromarray(pixels)


GREY = np.full((50, 60, 3), 100, np.uint8)
RED, BLUE = disc((200, 0, 0)), disc((0, 0, 200))


def composer(most_objects: int = 4) -> Composer:
    return Composer([[RED], [BLUE]], [[GREY], [GREY // 2]], 40, (8, 24), most_objects)


def same(a: Scene, b: Scene) -> bool:
    pairs = ((a.picture, b.picture), (a.mask, b.mask), (a.boxes, b.boxes), (a.classes, b.classes))
    return all(np.array_equal(x, y) for x, y in pairs)


def test_a_scene_is_always_the_same_and_no_two_are() -> None:
    forwards, backwards = composer(), composer()
    scenes = [forwards.scene(0, i) for i in range(6)]
    assert all(same(backwards.scene(0, i), scenes[i]) for i in reversed(range(6)))
    assert not any(same(scenes[i], scenes[j]) for i in range(6) for j in range(i))
    assert not same(forwards.scene(1, 0), scenes[0])


@given(st.integers(0, 10**9))
@example(1228)  # an edge upon an edge
@settings(max_examples=60, deadline=None)
def test_masks_and_boxes_are_exact(index: int) -> None:
    scene = composer().scene(1, index)
    assert scene.picture.shape == (40, 40, 3) and scene.picture.dtype == np.uint8
    assert 1 <= len(scene.classes) == len(scene.boxes) <= 4
    assert set(np.unique(scene.mask)) - {0} == {int(k) + 1 for k in scene.classes}
    covered = np.zeros((40, 40), bool)
    for left, top, right, bottom in scene.boxes.astype(int):
        covered[top:bottom, left:right] = True
    assert not (scene.mask > 0)[~covered].any()
    red, blue = scene.picture[..., 0].astype(int), scene.picture[..., 2].astype(int)
    ratio = (red + 1) / (blue + 1)  # away from edges, where objects are mixed with what is behind them
    # Where the edges of two objects of a class lie on each other, a third may shine through both, at a pixel or two.
    assert (ratio[inner(scene.mask, 1)] <= 1.3).sum() <= 2
    assert (ratio[inner(scene.mask, 2)] >= 0.7).sum() <= 2
    light = np.median(red[inner(scene.mask, 0)]) / 50
    assert LIGHT[0] - 0.04 <= light <= LIGHT[1]


def test_photos_that_are_learned_on_change_their_colours_and_others_only_their_light() -> None:
    def grey_of_the_photo(part: int) -> list[float]:
        scenes = [composer().scene(part, index) for index in range(20)]
        return [float(np.median(s.picture[..., 0][s.mask == 0])) for s in scenes]

    assert min(grey_of_the_photo(0)) < 70 and max(grey_of_the_photo(0)) > 130  # 100, and up to 60 more or less
    assert all(50 * LIGHT[0] - 2 <= grey <= 50 * LIGHT[1] for grey in grey_of_the_photo(1))


def inner(mask: np.ndarray, value: int) -> np.ndarray:
    """The pixels whose eight neighbours and themselves have a value."""
    same = np.pad(mask == value, 1, constant_values=value == 0)
    height, width = mask.shape
    return np.all([same[i : i + height, j : j + width] for i in range(3) for j in range(3)], 0)


def test_a_lonely_object_fills_its_box() -> None:
    alone = composer(most_objects=1)
    for index in range(30):
        scene = alone.scene(0, index)
        (left, top, right, bottom), rows = scene.boxes[0], np.flatnonzero(scene.mask.any(1))
        columns = np.flatnonzero(scene.mask.any(0))
        assert [left, top, right, bottom] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert 7 <= right - left <= 25 and abs((right - left) - (bottom - top)) <= 1


def test_objects_leave_enough_of_each_other() -> None:
    """Of a red disc below a blue one at least 60 % is seen: compare with the disc that its box says it is."""
    crowd, lapping = Composer([[RED], [BLUE]], [[GREY]], 40, (16, 16), 6), 0
    for index in range(60):
        scene = crowd.scene(0, index)
        seen = np.array([(scene.mask == k + 1).sum() for k in range(2)])
        number = np.array([(scene.classes == k).sum() for k in range(2)])
        assert (seen >= SMALLEST_SHARE * number * 0.9 * np.pi * 8**2).all()
        lapping += bool((seen < 0.9 * number * np.pi * 8**2).any())
    assert lapping > 10  # they do lie upon each other


def test_objects_are_of_all_sizes_and_classes() -> None:
    scenes = [composer(1).scene(0, i) for i in range(200)]
    widths = np.array([scene.boxes[0, 2] - scene.boxes[0, 0] for scene in scenes])
    assert widths.min() <= 9 and widths.max() >= 23 and 13 < widths.mean() < 19
    assert 70 < sum(int(scene.classes[0]) for scene in scenes) < 130
    places = np.array([scene.boxes[0, :2].mean() for scene in scenes])
    assert places.min() < 3 and places.max() > 20


def test_parts_stand_on_their_own_photos() -> None:
    scenes = composer(1)
    for part, value in ((0, 100), (1, 50)):
        shades = [np.median(scenes.scene(part, i).picture[..., 1]) for i in range(40)]
        assert np.mean(shades) == pytest.approx(value, rel=0.1)


def test_an_epoch_has_each_scene_once() -> None:
    data = Scenes(composer(), 0, 10, lambda scene: scene.mask)
    order = data.order(4, np.random.default_rng(0))
    assert [len(indices) for indices in order] == [4, 4]
    assert len(set(np.concatenate(order))) == 8 and max(map(max, order)) < 10
    batches = list(data.in_order(4))
    assert [tuple(batch.obs.shape) for batch in batches] == [(1, 4, 40, 40, 3)] * 2 + [(1, 2, 40, 40, 3)]
    assert np.array_equal(batches[1].obs[0, 1].numpy(), composer().scene(0, 5).picture)
    assert np.array_equal(batches[1].target[1].numpy(), composer().scene(0, 5).mask)


# --- files ------------------------------------------------------------------------------------------------------------


def test_objects_are_cut_to_what_is_seen_of_them(drawn: Path) -> None:
    found = read_cutouts(str(drawn / "objects"))
    assert {name: [image.size for image in images] for name, images in found.items()} == {
        "ball": [(32, 32)],
        "brick": [(36, 16)],
        "wedge": [(32, 32)],
    }
    assert list(read_cutouts(str(drawn / "objects"), ("wedge", "ball"))) == ["wedge", "ball"]


def test_no_photo_is_in_two_parts(drawn: Path) -> None:
    photos = read_photos(str(drawn / "photos"))
    assert [len(part) for part in (photos.train, photos.validation, photos.test)] == [4, 1, 1]
    everything = {photo.tobytes() for part in (photos.train, photos.validation, photos.test) for photo in part}
    assert len(everything) == 6
    packaged = read_photos("scikit-image")
    parts = [{photo.tobytes() for photo in part} for part in (packaged.train, packaged.validation, packaged.test)]
    assert [len(part) for part in parts] == [10, 3, 3] and len(set.union(*parts)) == 16


@pytest.mark.parametrize(
    ("source", "classes", "sentence"),
    [
        ("nowhere", (), "there is no folder 'nowhere'; give one with a folder of pictures for each class, or 'emoji'"),
        ("emojis", (), "did you mean 'emoji'"),
        ("objects", ("bal",), "has no 'bal' \\(did you mean 'ball'\\?\\)"),
        ("objects", ("ball", "ball"), "names a class twice: ball, ball"),
        ("photos", (), "should have a folder of pictures for each class; it has none"),
        ("bare", (), "it has nothing in b"),
        ("whole", (), "has no transparent pixel, so nothing says where the object ends"),
        ("nothing", (), "has nothing on it"),
        ("broken", (), r"x\.png cannot be read as a picture"),
        ("list", (), r"emoji\.json is no list of emoji"),
        ("emoji", (), "get them with 'npm install --prefix .*empty/triathlon emoji-datasource-twitter@16.0.0'"),
    ],
)
def test_what_is_wrong_with_objects_is_said(
    source: str, classes: tuple[str, ...], sentence: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "empty"))
    for name in ("objects", "photos"):
        Path(name).symlink_to(drawn / name)
    for name in ("bare/a", "bare/b", "whole/a", "nothing/a", "broken/a", "list"):
        Path(name).mkdir(parents=True)
    Image.new("RGBA", (4, 4)).save("bare/a/x.png")
    Image.new("RGB", (4, 4)).save("whole/a/x.png")
    Image.new("RGBA", (4, 4)).save("nothing/a/x.png")
    Path("broken/a/x.png").write_bytes(b"no picture")
    Path("list/emoji.json").write_text('[{"name": "CAT"}]')
    with pytest.raises(RunError, match=sentence):
        read_cutouts(source, classes)


def test_what_is_wrong_with_photos_is_said(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="did you mean 'scikit-image'"):
        read_photos("scikit-imag")
    with pytest.raises(RunError, match="has 1 photos; to learn, choose and test takes three or more"):
        read_photos(str(drawn / "objects" / "ball"))
    for i in range(3):
        Image.new("RGB", (90, 20)).save(tmp_path / f"{i}.png")
    with pytest.raises(RunError, match=r"\.png is smaller than 32 x 32 pixels"):
        read_photos(str(tmp_path))


def test_a_photo_stands_upright_in_its_own_size_and_what_is_too_large_is_refused(tmp_path: Path) -> None:
    for i in range(3):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        Image.new("RGB", (90, 40)).save(tmp_path / f"{i}.jpg", exif=exif)
    photos = read_photos(str(tmp_path))
    assert [part[0].shape for part in (photos.train, photos.validation, photos.test)] == [(90, 40, 3)] * 3
    assert read_whole(tmp_path / "0.jpg").shape == (90, 40, 3)
    (tmp_path / "objects" / "huge").mkdir(parents=True)
    Image.new("1", (14_000, 14_000)).save(tmp_path / "objects" / "huge" / "1.png")
    with pytest.raises(RunError, match=r"1\.png cannot be read as a picture: Image size"):
        read_cutouts(str(tmp_path / "objects"))
    with pytest.raises(RunError, match=r"1\.png cannot be read as a picture: Image size"):
        read_whole(tmp_path / "objects" / "huge" / "1.png")


@pytest.mark.external
def test_the_emoji_package_is_read() -> None:
    found = read_cutouts("emoji")
    assert tuple(found) == EMOJI_CLASSES
    assert all(len(images) == 1 and 40 <= max(images[0].size) <= 64 for images in found.values())
    by_folder = read_cutouts(str(emoji_folder()), ("octopus",))
    assert np.array_equal(np.asarray(by_folder["octopus"][0]), np.asarray(found["octopus"][0]))
    with pytest.raises(RunError, match=r"has no 'octopuss' \(did you mean 'octopus'\?\)"):
        read_cutouts("emoji", ("octopuss",))
