import shutil
import subprocess

import pytest

from dfml.cli.commands import COMMANDS
from dfml.cli.completion import options_of, script

BASH = """
source "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_dfml dfml "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("dfml zo", {"zoo"}),
        ("dfml zoo a", {"add", "audit"}),
        ("dfml serve", {"serve", "serve-teacher"}),
        ("dfml train --res", {"--resume"}),
        ("dfml zoo list --zoo-that-is-none", {""}),
        ("dfml predict pic", {""}),  # left to files
    ],
)
def test_bash_completes_commands_and_options(tmp_path, typed, offered):
    (tmp_path / "dfml").write_text(script(COMMANDS, "bash"))
    words = ["bash", "-c", BASH, "bash", str(tmp_path / "dfml"), *typed.split()]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) == offered
    assert not done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_offered(name):
    case = next(line for line in script(COMMANDS, "bash").splitlines() if f'"{name} "*)' in line)
    assert all(option in case for option in options_of(COMMANDS[name]))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_it(tmp_path, shell):
    (tmp_path / "dfml").write_text(script(COMMANDS, shell))
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(tmp_path / "dfml")], check=True)
