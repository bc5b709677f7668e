"""Completion of a program's flags, their values and file names in bash, zsh and fish.

shtab writes the script from the program's parser. A part of our own follows it, the same for every program: it reads
`python train.py` and `rrd train` as `train.py`, `--basis-alg` as `--basis_alg`, and the words that bash makes of
`--flag=value`. It also offers the subcommands of `rrd`.
"""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

from utils.errors import ConfigError
from utils.installed import COMMANDS, pip_install

SHELLS = ("bash", "zsh", "fish")
RRD = (*COMMANDS, "--help", "--version", "--completion")       # what follows `rrd`


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--completion SHELL`, which prints the shell's script and exits."""
    parser.add_argument("--completion", choices=SHELLS, action=_Print, default=argparse.SUPPRESS,
                        help="print the script by which this shell completes the flags, and exit")


class _Print(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        print(script(parser, values), end="")
        parser.exit()


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The text that `shell` sources to complete the flags of a parser; the parser cannot parse afterwards.

    Raises:
        ConfigError: shtab is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError:
        raise ConfigError(f"shtab is not installed; `{pip_install()}` installs it") from None
    name = parser.prog.split()[-1].removesuffix(".py").rpartition(".")[2]
    parser.prog = f"{name}.py"                          # `rrd train` is train.py, and so is `python -m x.train`
    for action in parser._actions:
        _spell(action, shell)
        if words := words_of(action):
            action.choices = words
        elif kind := re.search(r"DIR|FILE|RUN|CHECKPOINT", _metavar(action)):
            action.complete = shtab.DIRECTORY if kind[0] == "DIR" else shtab.FILE
    text = shtab.complete(parser, shell)
    # For zsh, shtab's text registers its function only inside `eval`; elsewhere it calls the function at once.
    dispatch = DISPATCH[shell].replace("@PROG@", parser.prog).replace("@COMMANDS@", " ".join(RRD))
    return (f"eval {shlex.quote(text)}\n" if shell == "zsh" else text) + dispatch


def _spell(action: argparse.Action, shell: str) -> None:
    """Offer one of the spellings `--a_b` and `--a-b`; tell zsh that `--a_b=value` is one word, too."""
    short = [name for name in action.option_strings if not name.startswith("--")]
    long = [name for name in action.option_strings if name.startswith("--")][:1]
    equals = "=" * (shell == "zsh" and action.nargs != 0)
    action.option_strings = [*short, *(f"{name}{equals}" for name in long)]


def words_of(action: argparse.Action) -> list[str]:
    """The words that an argument takes: its choices, or what its metavar lists (of `last|best|FILE`: last and best)."""
    listed = _metavar(action).split("|")
    return list(action.choices or [word for word in listed if len(listed) > 1 and not word.isupper()])


def _metavar(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else ""


_BASH = r"""
_return_decomposition() {
    local i word run words
    if [[ ${COMP_WORDS[0]##*/} == rrd && $COMP_CWORD == 1 ]]; then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "${COMP_WORDS[1]}"))
        return 0
    fi
    for ((i = 0; i < COMP_CWORD; i++)); do
        run=${COMP_WORDS[i]##*/}
        [[ $run == *tf_checkpoint || $run == *tf.convert ]] && run=convert.py
        [[ $i == 1 && ${COMP_WORDS[0]##*/} == rrd ]] && run+=.py
        run=_shtab_${run//[^[:alnum:]_]/_}
        declare -F "$run" >/dev/null && break
    done
    ((i < COMP_CWORD)) || return 0              # another program: the shell completes file names
    words=("${COMP_WORDS[i]}")
    while ((i++ < COMP_CWORD)); do
        word=${COMP_WORDS[i]}
        if [[ $word == "=" ]]; then             # bash takes --flag=value apart
            ((i < COMP_CWORD)) && continue
            word=
        elif [[ $word == --?* ]]; then
            word=${word#--}
            word=--${word//-/_}
        fi
        words+=("$word")
    done
    local COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
    "$run"
    if [[ -z $word && ${words[COMP_CWORD - 1]} != -* ]] && ((!${#COMPREPLY[@]})); then
        COMP_WORDS[COMP_CWORD]=-
        "$run"
    fi
}
complete -o bashdefault -o default -F _return_decomposition python python3 rrd @PROG@
"""

_ZSH = r"""
_return_decomposition() {
    local i run
    if [[ ${words[1]:t} == rrd ]] && ((CURRENT == 2)); then
        compadd -- @COMMANDS@
        return
    fi
    for ((i = 1; i < CURRENT; i++)); do
        run=${words[i]:t}
        [[ $run == *tf_checkpoint || $run == *tf.convert ]] && run=convert.py
        [[ $i == 2 && ${words[1]:t} == rrd ]] && run+=.py
        run=_shtab_${run//[^[:alnum:]_]/_}
        (($+functions[$run])) && break
    done
    if ((i == CURRENT)); then                   # another program
        if [[ $service == python* ]] && (($+functions[_python])); then _python "$@"; else _default; fi
        return
    fi
    words=("${(@)words[i,-1]}")
    ((CURRENT -= i - 1))
    for ((i = 2; i <= $#words; i++)); do
        [[ $words[i] == --?* ]] && words[i]=--${${${words[i]%%=*}#--}//-/_}${(M)words[i]%%=*}
    done
    [[ $PREFIX == --?* ]] && PREFIX=--${${${PREFIX%%=*}#--}//-/_}${(M)PREFIX%%=*}
    $run
}
compdef _return_decomposition python python3 rrd @PROG@
"""

_FISH = r"""
function _return_decomposition_words
    set -l words (commandline -opc)
    for i in (seq (count $words))
        set -l name (string replace -r '.*/' '' -- $words[$i])
        string match -qr '(tf_checkpoint|tf\.convert)$' -- $name; and set name convert.py
        test $i = 2; and string match -qr '(^|/)rrd$' -- $words[1]; and set name $name.py
        if functions -q _shtab_(string replace -ra '\W' _ -- $name)_using
            echo $name
            for word in $words[(math $i + 1)..]
                string match -q -- '--*' $word; and set word --(string replace -a -- - _ (string sub -s 3 -- $word))
                string escape -- $word
            end
            return 0
        end
    end
    return 1
end
function _return_decomposition
    complete -C (string join ' ' -- (_return_decomposition_words) (commandline -ct))
end
complete -c rrd -n 'test (count (commandline -opc)) = 1' -fa '@COMMANDS@'
for program in python python3 rrd
    complete -c $program -n '_return_decomposition_words >/dev/null' -fka '(_return_decomposition)'
end
"""

DISPATCH = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
