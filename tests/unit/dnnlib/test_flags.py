import click
import pytest
from click.testing import CliRunner

from dnnlib.errors import UserError
from dnnlib.flags import about, refuse


@click.command()
@click.option("--num-images", "count", default=1)
@click.option("--seed", default=0)
def command(count, seed):
    refuse("needs --video", "count")


@pytest.mark.parametrize(("arguments", "exit_code"), [([], 0), (["--seed=1"], 0), (["--num-images=1"], 2)])
def test_what_was_given_is_refused(arguments, exit_code):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == exit_code
    assert result.output.endswith("Error: --num-images needs --video\n" if exit_code else "")


@pytest.mark.parametrize(
    ("text", "said"), [("x is no zip", "--data: x is no zip"), ("--cond=1 needs", "--cond=1 needs")]
)
def test_errors_name_the_flag(text, said):
    with pytest.raises(UserError) as caught, about("--data"):
        raise UserError(text)
    assert str(caught.value) == said
