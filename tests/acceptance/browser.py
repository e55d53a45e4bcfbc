"""What a visitor does in a browser; runs where the browser is: browser.py ADDRESS TITLE SCREENSHOT

Types the address as people do, without https, adds an article, loads the page again, and prints what
it saw as JSON.
"""

import json
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By

SECONDS = 20


def main(address: str, title: str, screenshot: str) -> None:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        browser.set_page_load_timeout(SECONDS)
        browser.implicitly_wait(SECONDS)
        browser.get(f"http://{address}/")
        landed = browser.current_url
        for name, text in (("author", "A visitor"), ("title", title), ("body", "Typed in a browser.")):
            browser.find_element(By.NAME, name).send_keys(text)
        browser.find_element(By.CSS_SELECTOR, "form [type=submit]").click()
        browser.find_element(By.XPATH, f"//*[normalize-space()='{title}']")
        browser.refresh()
        found = browser.find_elements(By.XPATH, f"//*[normalize-space()='{title}']")
        browser.save_screenshot(screenshot)
        print(json.dumps({
            "landed": landed,
            "secure": browser.execute_script("return window.isSecureContext"),
            "protocol": browser.execute_script("return performance.getEntriesByType('navigation')[0].nextHopProtocol"),
            "shown": len(found),
            "console": [entry["message"] for entry in browser.get_log("browser")],
        }))  # fmt: skip
    finally:
        browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
