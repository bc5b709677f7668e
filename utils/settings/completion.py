"""Shell scripts that complete train.py's flags and their values, made from the settings."""

from __future__ import annotations

from utils.settings.fields import all_settings
from utils.settings.resolve import choices_of, field_type

SHELLS = ("bash", "zsh", "fish")
MODULES = {"import": "import this module first; it may register algorithms of your own"}
PRINTED = {"completion": "print the script that makes this shell complete flags and their values"}
FILES = {"config": "JSON file of settings; flags win over it", "resume": "resume the run in this directory"}


def script(shell: str) -> str:
    """The script that the shell reads."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def values_of(name: str) -> list[str]:
    """The words that a flag takes; an empty list if it takes any."""
    if name in PRINTED:
        return list(SHELLS)
    return choices_of(name) or (["True", "False"] if field_type(name) is bool else [])


# bash ----------------------------------------------------------------------------------------------------------

_BASH = r"""# Completes `python train.py --...`:  source <(python train.py --completion bash)
_return_decomposition() {
    local word=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]} i
    COMPREPLY=()
    for ((i = 0; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]##*/} == train.py ]] && break
    done
    ((i < COMP_CWORD)) || return 0              # another Python program: leave it to the shell
    # bash splits --flag=word
    [[ $flag == "=" ]] && flag=${COMP_WORDS[COMP_CWORD-2]}
    [[ $word == "=" ]] && word=
    case ${flag//-/_} in
@CASES@
    esac
    [[ $word == -* || $flag != -* ]] && COMPREPLY=($(compgen -W "@FLAGS@" -- "$word"))
    # --basis-a means --basis_a
    if [[ $word == --*-* ]]; then
        word=${word#--}
        COMPREPLY=($(compgen -W "@FLAGS@" -- "--${word//-/_}"))
    fi
    return 0
}
complete -o bashdefault -o default -F _return_decomposition python python3 train.py
"""


def _bash() -> str:
    cases = [f'        __{name}) COMPREPLY=($(compgen -W "{" ".join(values_of(name))}" -- "$word"))\n'
             '            ((${#COMPREPLY[@]})) && return 0 ;;'
             for name in [*all_settings(), *PRINTED] if values_of(name)]
    flags = " ".join(f"--{name}" for name in [*all_settings(), *FILES, *MODULES, *PRINTED, "help"])
    return _BASH.replace("@CASES@", "\n".join(cases)).replace("@FLAGS@", flags)


# zsh -----------------------------------------------------------------------------------------------------------

_ZSH = r"""#compdef train.py
# Completes `python train.py --...`:  source <(python train.py --completion zsh), after compinit
_return_decomposition() {
    _arguments \
@FLAGS@
}
_return_decomposition_python() {
    local i
    for ((i = 2; i < CURRENT; i++)); do
        if [[ ${words[i]:t} == train.py ]]; then
            words=("${(@)words[i,-1]}")
            ((CURRENT -= i - 1))
            _return_decomposition
            return
        fi
    done
    if (($+functions[_python])); then _python "$@"; else _default; fi
}
compdef _return_decomposition train.py
compdef _return_decomposition_python python python3
"""


def _zsh() -> str:
    flags = [_zsh_flag(name, one.help, f"({' '.join(values_of(name))})" if values_of(name) else " ")
             for name, one in all_settings().items()]
    flags += [_zsh_flag(name, text, f"({' '.join(values_of(name))})") for name, text in PRINTED.items()]
    flags += [_zsh_flag(name, text, "_files") for name, text in FILES.items()]
    flags += [_zsh_flag(name, text, " ", "\\*") for name, text in MODULES.items()]
    return _ZSH.replace("@FLAGS@", " \\\n".join(flags))


def _zsh_flag(name: str, text: str, action: str, often: str = "") -> str:
    for c in "\\[]:":
        text = text.replace(c, f"\\{c}")
    return f"        {often}'--{name}=[{_single(text)}]:{name}:{action}'"


def _single(text: str) -> str:
    """The text for within single quotes."""
    return text.replace("'", "'\\''")


# fish ----------------------------------------------------------------------------------------------------------

_FISH = r"""# Completes `python train.py --...`:  python train.py --completion fish | source
function __return_decomposition
    string match -qr '(^|/)train\.py$' -- (commandline -opc)
end
for program in python python3 train.py
@FLAGS@
end
"""


def _fish() -> str:
    lines = [_fish_flag(name, one.help, f"-x -a '{' '.join(values_of(name))}'")
             for name, one in all_settings().items()]
    lines += [_fish_flag(name, text, f"-x -a '{' '.join(values_of(name))}'") for name, text in PRINTED.items()]
    lines += [_fish_flag(name, text, "-r -F") for name, text in FILES.items()]
    lines += [_fish_flag(name, text, "-x") for name, text in MODULES.items()]
    return _FISH.replace("@FLAGS@", "\n".join(lines))


def _fish_flag(name: str, text: str, values: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"    complete -c $program -n __return_decomposition -l {name} -d '{quoted}' {values}"
