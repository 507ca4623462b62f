"""Reading a CSV file into cells of text: gzipped or not, with comments or not, or an error that names the line."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from carbon_nas.errors import ConfigurationError

if TYPE_CHECKING:  # 35 MB of memory, which only a daemon that replays a trace should pay for
    import pandas as pd

GZIP_MAGIC = b"\x1f\x8b"
HEADERLESS = ("seconds", "value")
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def read_table(path: Path) -> "tuple[pd.DataFrame, list[int]]":
    """Give the file's cells as text, and the line of each row. Blank lines and `#` comments are left out.

    Raises:
        ConfigurationError: the file is missing, unreadable, broken, empty or ragged.
    """
    import pandas as pd  # noqa: PLC0415 -- see above

    rows = list(_rows(path))
    if not rows:
        raise ConfigurationError("the file is empty; it needs a header and rows", file=path)
    if len(rows[0][1]) == 2 and all(re.match(NUMBER, cell.strip()) for cell in rows[0][1]):
        rows.insert(0, (0, list(HEADERLESS)))
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) < len(header):
        raise at_line(path, rows[0][0], f"a column name appears twice: {', '.join(header)}")
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise at_line(path, line, f"{len(cells)} cells, but the header names {len(header)} columns")
    if len(rows) < 3:
        raise ConfigurationError("at least two rows are needed, or the step is unknown", file=path)
    return pd.DataFrame([cells for _, cells in rows[1:]], columns=header), [line for line, _ in rows[1:]]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                yield number, next(csv.reader([line]))
            except csv.Error as error:
                raise at_line(path, number, f"cannot be split into cells: {error}") from error


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz" and content and not content.startswith(GZIP_MAGIC):
            raise ConfigurationError(
                "the name ends with .gz but the content is not gzip; rename it", file=path
            )
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigurationError("no such file; check the path", file=path) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigurationError(f"the gzip data are broken ({error}); fetch it again", file=path) from error
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("is not UTF-8 text; save it as a CSV file in UTF-8", file=path) from error


def at_line(path: Path, line: int, problem: str) -> ConfigurationError:
    """Say where."""
    return ConfigurationError(f"line {line}: {problem}", file=path)
