from metrics.progress import ProgressMonitor


def test_shows_nothing_unless_asked(capsys):
    monitor = ProgressMonitor(tag="images", num_items=2)
    monitor.update(2)
    ProgressMonitor(verbose=True).update(2)
    assert capsys.readouterr() == ("", "")


def test_shows_how_many_items_are_done(capsys):
    monitor = ProgressMonitor(verbose=True).sub("images", num_items=10)
    for items in (4, 10, 10):
        monitor.update(items)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["images: 0 of 10", "images: 10 of 10"]


def test_stages_share_a_display_of_the_caller():
    calls = []
    whole = ProgressMonitor(
        progress_fn=lambda position, total: calls.append((position, total)), pfn_total=200, pfn_hi=200
    )
    first = whole.sub("real", num_items=10, flush_interval=5, rel_hi=0.25)
    second = whole.sub("fakes", num_items=4, flush_interval=1, rel_lo=0.25)
    for items in (1, 4, 5, 9, 10):
        first.update(items)
    for items in (2, 4):
        second.update(items)
    assert calls == [(25, 200), (50, 200), (125, 200), (200, 200)]
