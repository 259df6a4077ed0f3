from training.data.preparation import Resizing
from training.data.report import MAX_EXAMPLES, MAX_GROUPS, Extreme, Report, ValueRange


def test_skipped_images_by_reason():
    report = Report()
    for width in range(5):
        report.add_skipped(f"{width}.png", f"is {width}x9, smaller than 16x12")
    report.add_skipped("a.png", "is damaged")
    small, damaged = report.skipped.values()
    assert (small.text, small.count, small.names) == (
        "is 0x9, smaller than 16x12",
        5,
        [f"{number}.png" for number in range(MAX_EXAMPLES)],
    )
    assert (damaged.text, damaged.count, damaged.names) == ("is damaged", 1, ["a.png"])
    assert report.skipped.num_files == 6


def test_groups_are_limited():
    """Whatever reasons damaged files produce."""
    report = Report()
    for number in range(1000):
        report.add_skipped("a.png", "x" * number)
    assert len(report.skipped) == MAX_GROUPS + 1
    assert report.skipped["other reasons"].count == 1000 - MAX_GROUPS
    assert report.skipped.num_files == 1000


def test_ignored_files_by_reason_and_extension():
    report = Report()
    report.add_ignored({"hidden": [".a.PNG", "b/.b.png"], "unsupported": ["a.png/c", "d.png"]})
    assert [(group.text, group.names) for group in report.ignored.values()] == [
        ("hidden (.png)", [".a.PNG", "b/.b.png"]),
        ("unsupported (no extension)", ["a.png/c"]),
        ("unsupported (.png)", ["d.png"]),
    ]


def test_extreme():
    extreme = Extreme()
    assert not extreme
    for name, factor in {"a": 0.5, "b": 1.0, "c": 1.5, "d": 4.0, "e": 2.0}.items():
        extreme.add(name, factor)
    assert extreme
    assert (extreme.count, extreme.factor, extreme.name) == (3, 4.0, "d")


def test_value_range():
    values = ValueRange()
    assert values.low > values.high
    values.add((3, 4))
    values.add((5, 9))
    assert (values.low, values.high) == (3, 9)


def test_resizing():
    report = Report()
    report.add_resizing("a", Resizing((8, 8), (8, 8)))
    report.add_resizing("b", Resizing((8, 4), (16, 16)))
    assert (report.enlarged.name, report.enlarged.factor) == ("b", 4)
    assert (report.stretched.name, report.stretched.factor) == ("b", 2)
    assert (report.enlarged.count, report.stretched.count) == (1, 1)


def test_classes_without_images_are_dropped():
    report = Report(class_names=["a", "b", "c", "d"], folders_without_images=["bb"])
    report.class_counts.update({1: 5, 3: 2})
    assert report.drop_empty_classes() == {1: 0, 3: 1}
    assert report.class_names == ["b", "d"]
    assert report.class_counts == {0: 5, 1: 2}
    assert report.folders_without_images == ["a", "bb", "c"]
