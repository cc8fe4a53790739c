"""Completion of commands and options in a shell."""

import inspect
from collections.abc import Callable, Mapping
from typing import Literal

Commands = Mapping[str, Callable[..., None]]

BASH = """\
_dfml() {{
    local command="${{COMP_WORDS[1]}}" options=""
    case "$command ${{COMP_WORDS[2]:-}}" in
{cases}
    esac
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "{first}" -- "$2"))
    elif (( COMP_CWORD == 2 )) && [[ -n "$(_dfml_second "$command")" ]]; then
        COMPREPLY=($(compgen -W "$(_dfml_second "$command")" -- "$2"))
    elif [[ "$2" == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$2"))
    fi
}}
_dfml_second() {{
    case "$1" in
{second}
    esac
}}
complete -o default -F _dfml dfml
"""


def script(commands: Commands, shell: Literal["bash", "zsh", "fish"]) -> str:
    """What the shell has to read; files complete where neither a command nor an option is due.

    Args:
        commands: name to function; a name is one word or two.
        shell: zsh runs bash's script.
    """
    first = list(dict.fromkeys(name.split()[0] for name in commands))
    second = {word: [name.split()[1] for name in commands if name.startswith(f"{word} ")] for word in first}
    if shell == "fish":
        return "".join(_fish(commands, first, second))
    cases = "\n".join(f'        "{name} "*) options="{" ".join(options_of(commands[name]))}" ;;' for name in commands)
    words = "\n".join(f'        {word}) echo "{" ".join(inside)}" ;;' for word, inside in second.items() if inside)
    text = BASH.format(cases=cases, first=" ".join(first), second=words)
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def options_of(command: Callable[..., None]) -> list[str]:
    """``--name`` of every option that takes part in the help."""
    named = inspect.signature(command).parameters.values()
    return [f"--{p.name.replace('_', '-')}" for p in named if p.kind is p.KEYWORD_ONLY and p.name != "overrides"]


def _fish(commands: Commands, first: list[str], second: Mapping[str, list[str]]) -> list[str]:
    lines = [f'complete -c dfml -n __fish_use_subcommand -f -a "{" ".join(first)}"\n']
    for word, inside in second.items():
        if inside:
            none = f"__fish_seen_subcommand_from {word}; and not __fish_seen_subcommand_from {' '.join(inside)}"
            lines.append(f'complete -c dfml -n "{none}" -f -a "{" ".join(inside)}"\n')
    for name, command in commands.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
        lines += [f'complete -c dfml -n "{seen}" -l {option[2:]}\n' for option in options_of(command)]
    return lines
