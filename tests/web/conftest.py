import pathlib
import shutil
import sys

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "e2e"))
from weir_server import Server  # noqa: E402


@pytest.fixture(scope="session")
def site():
    """A server for the page: its first model name is the one the page shows."""
    with Server("--served-model-name", "weir-tiny", "qwen3.5", "--reasoning-parser", "qwen3",
                "-sc", '{"method": "mtp", "num_speculative_tokens": 3, "adaptive": false}') as running:
        yield running
        running.wait_idle()


@pytest.fixture(scope="session")
def browser():
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,820", "--no-proxy-server"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Debian's browser and driver where they are; elsewhere (Ubuntu has them as a snap only) Selenium fetches both.
    service = webdriver.ChromeService(shutil.which("chromedriver")) if shutil.which("chromedriver") else None
    if shutil.which("chromium"):
        options.binary_location = shutil.which("chromium")
    try:
        driver = webdriver.Chrome(options=options, service=service)
    except WebDriverException as error:
        pytest.fail(f"no browser for the page tests: {error.msg}")
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, site):
    """The page, freshly loaded without settings of earlier tests; at the end its console must be empty."""
    browser.get(site.url)
    browser.execute_script("localStorage.clear()")
    browser.get(site.url)
    browser.get_log("browser")
    browser.get_log("performance")
    yield browser
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    allowed = getattr(browser, "expected_console_errors", ())
    browser.expected_console_errors = ()
    assert [message for message in errors if not any(part in message for part in allowed)] == []
