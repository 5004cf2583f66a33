"""Numbers, times and sizes as people read them."""

from __future__ import annotations

from typing import Any

NOTHING = "\u2013"
"""What stands where there is no value: a dash."""
TIMES = "\u00d7"


def number(value: Any, places: int = 3) -> str:
    """Return a number with `places` decimals and thousands apart; a dash for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING
    text = f"{value:,.{places}f}"
    return text.replace("-", "\u2212")


def count(value: Any) -> str:
    """Return a whole number with thousands apart."""
    return number(value, 0)


def signed(value: float) -> str:
    """Return a change with its sign."""
    return ("+" if value > 0 else "") + number(value)


def interval(metric: dict[str, Any]) -> str:
    """Return `0.251 to 0.318`, or nothing where there is no interval."""
    low, high = metric.get("low"), metric.get("high")
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def duration(seconds: Any) -> str:
    """Return seconds as `41.2 s`, `2 min 04 s` or `3 h 07 min`."""
    if not isinstance(seconds, int | float):
        return NOTHING
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004


def size(amount: Any) -> str:
    """Return bytes as `412 B`, `3.1 MB` or `15.9 GB` (powers of 1000)."""
    if not isinstance(amount, int | float):
        return NOTHING
    value, units = float(amount), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:  # noqa: PLR2004
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def moment(stamp: Any) -> str:
    """Return an ISO time as `2026-11-21 10:15:30 UTC`."""
    return f"{stamp[:19].replace('T', ' ')} UTC" if isinstance(stamp, str) and stamp else NOTHING


def setting(value: Any) -> str:
    """Return a recipe's value as TOML would have it, lists in short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value) or NOTHING
    if isinstance(value, dict):
        return ", ".join(f"{key} {setting(item)}" for key, item in value.items())
    return str(value) if value != "" else NOTHING


def signed_percent(share: float) -> str:
    """Return a share of one as a signed percentage."""
    return ("+" if share > 0 else "") + number(100 * share, 0) + " %"


def change(difference: float, low: float | None, high: float | None) -> str:
    """Return a difference with its interval, `+0.021 (95 % +0.003 to +0.040)`."""
    bounds = "" if low is None or high is None else f" (95 % {signed(low)} to {signed(high)})"
    return f"{signed(difference)}{bounds}"


def p_value(value: float) -> str:
    """Return `< 0.001` or `= 0.034`."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"  # noqa: PLR2004
