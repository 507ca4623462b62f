"""The report as a browser shows it: whole, from the file alone, at the width of a desk and of a telephone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_records import make_record

from carbon_nas.report import write_report

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")

PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".plot, .scroll")
    && e.getBoundingClientRect().right > innerWidth + 1);
  const over = [...document.querySelectorAll(".tiles b")].filter(e => e.scrollWidth > e.clientWidth + 1);
  document.title = `loaded=${performance.getEntriesByType("resource").length} wide=${wide.length} over=${over.length}`;
})</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(make_record(), tmp_path_factory.mktemp("report"))


def look(page: Path, width: int, tmp_path: Path) -> str:
    """Open a copy of the page that measures itself, and give its document as the browser made it."""
    copy = tmp_path / "page.html"
    text = re.sub(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", page.read_text(), count=1)
    copy.write_text(text.replace("</body>", f"{PROBE}</body>"))
    done = subprocess.run(
        [
            str(CHROMIUM),
            *QUIET,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},2000",
            "--virtual-time-budget=5000",
            "--dump-dom",
            copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("width", [1000, 500])
def test_nothing_is_fetched_cut_off_or_wider_than_the_page(page, width, tmp_path):
    document = look(page, width, tmp_path)
    assert re.search(r"<title>loaded=0 wide=0 over=0</title>", document), re.search("<title>.*", document)
    assert document.count("<svg") >= 3
