"""A progress bar on a terminal, silence elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(description: str) -> Iterator[Callable[..., None]]:
    """A bar; the function that it gives sets the fraction that is done, 0 to 1, and a note beside it."""
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(desc=description, total=1.0, bar_format=form, disable=None, leave=False) as progress:

        def update(fraction: float, note: object = "") -> None:
            progress.set_postfix_str(str(note), refresh=False)
            progress.update(fraction - progress.n)

        yield update
