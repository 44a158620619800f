"""Shows how far a long piece of work is: a bar on a terminal, elsewhere a line a minute."""

import sys
from typing import Any

from tqdm import tqdm

INTERVAL = 60  # seconds between two lines


class Progress(tqdm):
    """A bar of tqdm that writes whole lines where standard error is no terminal."""

    def __init__(self, *arguments: Any, **options: Any):
        self.lines = not sys.stderr.isatty()
        if self.lines:
            options |= {"mininterval": INTERVAL, "maxinterval": INTERVAL, "leave": False}
        super().__init__(*arguments, **options)

    def close(self) -> None:
        """Takes the bar off a terminal; lines need no end."""
        if self.lines and not self.disable:
            self.disable = True
            self._decr_instances(self)  # pyright: ignore
        super().close()

    def clear(self, nolock: bool = False) -> None:
        """Takes the bar away while another line is written."""
        if not self.lines:
            super().clear(nolock)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draws the bar, or writes a line about what is done so far."""
        if not self.lines:
            return super().display(msg, pos)
        # `tqdm.write` would draw it anew each time.
        if msg is None and self.n > self.initial and self._waited() >= self.mininterval:
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return True

    def _waited(self) -> float:
        """Returns the seconds since the last line."""
        return self._time() - self.last_print_t  # pyright: ignore
