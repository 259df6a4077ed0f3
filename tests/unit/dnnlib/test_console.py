import io
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from dnnlib.console import errors_in_one_line
from dnnlib.errors import UserError
from tests.helpers import REPOSITORY


@pytest.mark.parametrize("error", [UserError("no images"), PermissionError("no images"), KeyError("no images")])
def test_errors_are_a_line(error):
    @click.command()
    @errors_in_one_line(KeyError)
    def command():
        raise error

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {error}\n"


def test_errors_of_the_system_are_worded():
    @click.command()
    @errors_in_one_line()
    def command():
        open("/dev/null/x")  # noqa: SIM115

    assert CliRunner().invoke(command).stderr == (
        "Error: /dev/null/x cannot be read or written: a file stands where a folder is needed; choose another path\n"
    )


def test_faults_of_the_program_keep_their_traceback():
    with pytest.raises(KeyError), errors_in_one_line():
        raise KeyError("no images")


def test_paths_of_any_language_print_on_an_ascii_terminal(monkeypatch):
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, encoding="ascii"))
    with errors_in_one_line():
        print("f\u00fcnf", flush=True)
    assert terminal.getvalue() == b"f\\xfcnf\n"


def test_a_command_goes_on_where_nobody_reads_its_output(tmp_path):
    read, write = os.pipe()
    os.close(read)
    work = f"click.echo('begun'); open({str(tmp_path / 'result')!r}, 'w'); print('done', flush=True)"
    code = f"import click\nfrom dnnlib.console import errors_in_one_line\nwith errors_in_one_line(): {work}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, stdout=write, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "result").exists()
