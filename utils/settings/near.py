"""Names that are nearly a setting: a slip of the keyboard, rather than a name of a user's own."""

from __future__ import annotations

from collections.abc import Iterable

SHORT = 8               # below this many letters, names that differ by one letter are often two good names: q_lr, v_lr


def nearly(name: str, settings: Iterable[str]) -> str | None:
    """The setting that `name` nearly is, or None.

    A name is nearly a setting if it differs only in case and underscores (`batchsize`), or has a letter doubled
    (`pi_lrr`) or two neighbours exchanged (`gmama`); long names also if one letter is missing, added or wrong
    (`optimiser`). A plural (`gammas`), a number (`q_lr2`) and another first letter (`v_optimizer`) make another name.
    """
    return next((setting for setting in settings if _is_near(name, setting)), None)


def _is_near(name: str, setting: str) -> bool:
    plain, wanted = (text.lower().replace("_", "") for text in (name, setting))
    if plain == wanted:
        return name != setting
    if plain[:1] != wanted[:1] or _is_plural(plain, wanted) or any(map(str.isdigit, plain)):
        return False
    return _is_slip(plain, wanted) or (len(wanted) >= SHORT and _is_one_letter_off(plain, wanted))


def _is_plural(one: str, other: str) -> bool:
    return f"{one}s" == other or f"{other}s" == one


def _is_slip(plain: str, wanted: str) -> bool:
    """Whether one letter is doubled or halved, or two neighbours are exchanged."""
    if abs(len(plain) - len(wanted)) == 1:
        short, long = sorted((plain, wanted), key=len)
        return any(long[i] == long[i + 1] and long[:i] + long[i + 1:] == short for i in range(len(short)))
    return any(plain == wanted[:i] + wanted[i + 1] + wanted[i] + wanted[i + 2:] for i in range(len(wanted) - 1))


def _is_one_letter_off(plain: str, wanted: str) -> bool:
    if len(plain) == len(wanted):
        return sum(a != b for a, b in zip(plain, wanted, strict=True)) == 1
    short, long = sorted((plain, wanted), key=len)
    return any(long[:i] + long[i + 1:] == short for i in range(len(long))) and len(long) == len(short) + 1
