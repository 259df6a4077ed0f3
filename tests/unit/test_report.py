import os

from click.testing import CliRunner

from report import main
from tests.fake_run import write_run


def test_one_run(tmp_path):
    run_dir = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    result = CliRunner().invoke(main, [str(run_dir)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Wrote {run_dir}/report.html (")
    assert (run_dir / "report.html").is_file()


def test_a_folder_whose_name_is_no_text(tmp_path):
    run_dir = write_run(tmp_path / os.fsdecode(b"r\xff"), num_ticks=2, num_grids=1)
    result = CliRunner().invoke(main, [str(run_dir)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Wrote {tmp_path}/r\\udcff/report.html (")


def test_the_latest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["latest"])
    assert result.output == f"Error: latest: no run in {tmp_path}/runs has finished a tick; give a run folder\n"
    for number in (8, 9):
        write_run(tmp_path / f"runs/0000{number}-cats", num_ticks=2, num_grids=1)
    (tmp_path / "runs/00010-cats").mkdir()  # has just begun
    for name in ("latest", "runs"):
        result = CliRunner().invoke(main, [name])
        assert result.output.startswith("Wrote runs/00009-cats/report.html (")
    (tmp_path / "latest").mkdir()
    assert "latest: not a run folder that has finished a tick" in CliRunner().invoke(main, ["latest"]).output


def test_several_runs(tmp_path):
    runs = [str(write_run(tmp_path / name, num_ticks=2, num_grids=1)) for name in "ab"]
    result = CliRunner().invoke(main, [*runs, f"--out={tmp_path / 'page.html'}"])
    assert result.exit_code == 0, result.output
    assert "<h1>2 runs</h1>" in (tmp_path / "page.html").read_text()


def test_a_run_is_not_compared_with_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/00001-cats", num_ticks=2, num_grids=1)
    for runs, said in [
        (["runs/00001-cats"] * 2, "runs/00001-cats is given twice; name"),
        (["latest", f"{tmp_path}/runs/00001-cats"], f"{tmp_path}/runs/00001-cats is given twice, as runs/00001-cats;"),
    ]:
        result = CliRunner().invoke(main, runs)
        assert result.output.startswith(f"Error: {said}")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_mistakes_take_one_line(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path}: not a run folder that has finished a tick, stats.jsonl is missing\n"
    run_dir = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    result = CliRunner().invoke(main, [str(run_dir), f"--out={tmp_path / 'missing/page.html'}"])
    assert result.output.count("\n") == 1
    assert "No such file or directory" in result.output
    assert "13 runs are too many" in CliRunner().invoke(main, ["a"] * 13).output


def test_a_network_is_not_replaced(tmp_path):
    run_dir = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    (snapshot,) = run_dir.glob("network-snapshot-*.pkl")
    result = CliRunner().invoke(main, [str(run_dir), f"--out={snapshot}"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert snapshot.read_bytes() == b"networks"


def test_only_files_are_replaced(tmp_path):
    run_dir = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    os.mkfifo(tmp_path / "pipe")
    result = CliRunner().invoke(main, [str(run_dir), f"--out={tmp_path / 'pipe'}"])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path / 'pipe'} is not a regular file")
    assert (tmp_path / "pipe").is_fifo()
