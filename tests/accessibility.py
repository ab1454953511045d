"""Hold a page in a browser to axe's rules."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def hold_to_axe(page: Page) -> None:
    """Fail where axe finds anything serious or critical on the page as it stands."""
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, [(each["id"], [(node["html"], node["failureSummary"]) for node in each["nodes"]]) for each in serious]
