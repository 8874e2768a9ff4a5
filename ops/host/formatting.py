"""Human-readable times, durations, sizes and values, for the command line and the console."""

from datetime import datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def duration_text(seconds: float | None) -> str:
    """`40 ms`, `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 0.0995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


def ago_text(moment: datetime | None, now: datetime) -> str:
    """`just now`, `5 min ago`, `3 h ago`, `12 d ago`; `-` for None."""
    if moment is None:
        return "-"
    seconds = (now - moment).total_seconds()
    unit = next(((name, size) for name, size in _UNITS if seconds >= size), None)
    return f"{int(seconds // unit[1])} {unit[0]} ago" if unit else "just now"


def size_text(size_bytes: int) -> str:
    """`512 B`, `5.1 MB`; decimal units."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        size /= 1_000
        if size < 1_000:
            return f"{size:.1f} {unit}"
    return f"{size / 1_000:.1f} TB"


def number_text(value: float | None, missing: str = "-") -> str:
    """`1,234.5`: thousands apart, at most four decimals; `missing` for None."""
    if value is None:
        return missing
    text = f"{value:,.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def change_text(change: float | None, missing: str = "-") -> str:
    """`+1,234.5`, `-2`, `0`; `missing` for None."""
    return number_text(change, missing) if change is None or change <= 0 else f"+{number_text(change)}"


def percent_text(percent: float | None, missing: str = "-") -> str:
    """`+1.3 %`; `missing` for None."""
    return missing if percent is None else f"{percent:+,.1f} %"
