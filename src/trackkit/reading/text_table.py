"""Long tables as lines of text: rich takes seconds for 1,000 rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

_GAP = "  "
# Texts are cut to no fewer cells.
_LEAST = 16


def visible(text: str) -> str:
    """Returns a text on one line, without control characters, which would act on a terminal."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


class TextTable:
    """A table as lines of text.

    Args:
        columns: heading to cells.
        right: headings of the columns that are aligned to the right; these are never cut.
        whole: headings of further columns that are never cut.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[str]], right: Collection[str] = (), whole: Collection[str] = ()
    ) -> None:
        self._columns = {visible(name): [name, *texts] for name, texts in columns.items()}
        self._columns = {name: list(map(visible, texts)) for name, texts in self._columns.items()}
        self._right, self._whole = right, {*right, *whole}
        self._widths = {name: max(map(_width, texts)) for name, texts in self._columns.items()}

    def fit(self, width: int, expendable: Sequence[str] = ()) -> list[str]:
        """Makes the table fit a terminal: drops columns, then cuts the widest texts, to 16 cells at least.

        Args:
            width: of the terminal, in cells.
            expendable: headings of the columns to drop, the first first.

        Returns:
            The headings that were dropped.
        """
        texts = [name for name in self._columns if name not in self._whole]
        dropped = []
        for name in (name for name in expendable if name in self._columns):
            spare = sum(max(0, self._widths[each] - _LEAST) for each in texts if each in self._columns)
            if self._total() - spare <= width:
                break
            dropped.append(name)
            del self._columns[name], self._widths[name]
        for _ in range(self._total() - width):
            widest = max((name for name in texts if name in self._columns), key=self._widths.__getitem__, default=None)
            if widest is None or self._widths[widest] <= _LEAST:
                break
            self._widths[widest] -= 1
        return dropped

    def lines(self) -> list[dict[str, str]]:
        """Returns each line, that of the headings first: heading to padded cell."""
        padded = {}
        for name, texts in self._columns.items():
            width, pad = self._widths[name], str.rjust if name in self._right else str.ljust
            cells = (text if _width(text) <= width else _cut(text, width) for text in texts)
            padded[name] = [pad(text, width - _width(text) + len(text)) for text in cells]
        return [dict(zip(padded, line, strict=True)) for line in zip(*padded.values(), strict=True)]

    def _total(self) -> int:
        return sum(self._widths.values()) + len(_GAP) * (len(self._widths) - 1)


def joined(cells: Mapping[str, str]) -> str:
    """Returns a line of a table as text."""
    return _GAP.join(cells.values()).rstrip()


def _width(text: str) -> int:
    """Returns how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    while _width(text) >= width:
        text = text[:-1]
    return f"{text}…"
