"""The chat page in a real browser, against the real server."""
import re
import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

QUICK = "What is the capital of France?"
LONG_ANSWER = "Count from 1 to 99."


def by_id(page, name):
    return page.find_element(By.ID, name)


def wait(page, condition, seconds=30):
    return WebDriverWait(page, seconds, poll_frequency=0.02).until(lambda _: condition())


def wait_ready(page):
    wait(page, lambda: by_id(page, "health").get_attribute("data-state") == "ready" and by_id(page, "model").get_attribute("value"))


def ask(page, text):
    by_id(page, "input").send_keys(text + Keys.ENTER)


def answers(page):
    return page.find_elements(By.CSS_SELECTOR, ".turn.assistant")


def wait_answer(page, count=1):
    """The last answer once it is complete: its figures are there."""
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, ".turn.assistant .foot")) >= count)
    return answers(page)[-1]


def requests_sent(page):
    """Bodies of the chat requests since the last call."""
    bodies = []
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent" and message["params"]["request"]["url"].endswith("/v1/chat/completions"):
            bodies.append(json.loads(message["params"]["request"]["postData"]))
    return bodies


def set_thinking(page, on):
    if (by_id(page, "thinking").get_attribute("aria-pressed") == "true") != on:
        by_id(page, "thinking").click()


def endless(page):
    """Answers that do not end by themselves within a test, for what happens while one is running."""
    page.execute_script("""
      const send = window.fetch;
      window.fetch = (url, options) => {
        if (options && options.body) options = {...options, body: JSON.stringify({...JSON.parse(options.body), ignore_eos: true, max_tokens: 20000})};
        return send(url, options);
      };""")


def test_the_page_loads_alone_and_knows_its_model(page):
    wait_ready(page)
    assert page.title == "weir"
    options = [option.text for option in by_id(page, "model").find_elements(By.TAG_NAME, "option")]
    assert options == ["weir-tiny", "qwen3.5"]
    assert by_id(page, "health-text").text == "ready"
    assert page.switch_to.active_element == by_id(page, "input")
    resources = page.execute_script("return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)")
    assert set(resources) <= {page.execute_script("return location.origin")}


def test_an_answer_streams_in(page):
    wait_ready(page)
    set_thinking(page, False)
    endless(page)
    ask(page, LONG_ANSWER)
    sizes = set()

    def growing():
        sizes.update(len(answer.text) for answer in page.find_elements(By.CSS_SELECTOR, ".turn.assistant .answer"))
        return len(sizes) >= 5

    wait(page, growing)
    by_id(page, "stop").click()


def test_a_second_turn_shows_what_was_cached_and_guessed(page):
    wait_ready(page)
    set_thinking(page, False)
    ask(page, "Count from 1 to 20.")
    wait_answer(page)
    ask(page, "And from 2 to 19?")
    wait_answer(page, 2)
    figures = page.find_elements(By.CSS_SELECTOR, ".figures")[-1].text
    assert "prompt tokens cached" in figures, figures
    assert int(re.search(r"(\d+) tokens guessed ahead", figures)[1]) > 10, figures


def test_an_answer_shows_its_figures_and_is_announced(page):
    wait_ready(page)
    set_thinking(page, False)
    ask(page, LONG_ANSWER)
    wait_answer(page)
    assert page.find_element(By.CSS_SELECTOR, ".turn.user").text == LONG_ANSWER
    figures = page.find_element(By.CSS_SELECTOR, ".figures").text
    assert "token/s" in figures and "first token after" in figures and "ms" in figures
    assert by_id(page, "announce").get_attribute("textContent").startswith("Answer complete")


def test_the_answer_is_the_one_the_api_gives(page, site):
    wait_ready(page)
    set_thinking(page, False)
    page.execute_script("document.getElementById('temperature').value = '0'")
    ask(page, QUICK)
    shown = wait_answer(page).find_element(By.CSS_SELECTOR, ".answer").text
    assert shown == site.chat(QUICK, chat_template_kwargs={"enable_thinking": False})["choices"][0]["message"]["content"].strip()


def test_a_thought_is_shown_folded_and_opens_by_keyboard(page):
    wait_ready(page)
    ask(page, "What is 82 plus 282?")
    answer = wait_answer(page)
    thought = answer.find_element(By.CSS_SELECTOR, "details.thought")
    assert thought.get_attribute("open") is None
    assert thought.find_element(By.TAG_NAME, "summary").text.startswith("Thought for")
    assert not thought.find_element(By.CSS_SELECTOR, ".body").is_displayed()
    page.execute_script("arguments[0].focus()", thought.find_element(By.TAG_NAME, "summary"))
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert thought.find_element(By.CSS_SELECTOR, ".body").is_displayed()
    assert len(thought.find_element(By.CSS_SELECTOR, ".body").text) > 5
    assert "think>" not in answer.text


def test_while_it_thinks_the_page_says_so(page):
    wait_ready(page)
    endless(page)
    page.execute_script("""
      window.summaries = new Set();
      new MutationObserver(() => document.querySelectorAll('.thought summary').forEach(node => window.summaries.add(node.textContent)))
        .observe(document.getElementById('log'), {subtree: true, childList: true, characterData: true});""")
    ask(page, "What is 82 plus 282?")
    wait(page, lambda: page.execute_script("return [...window.summaries].some(text => text.startsWith('Thinking…'))"))
    by_id(page, "stop").click()


def test_the_stop_button_stops_the_answer_and_the_engine(page, site):
    wait_ready(page)
    endless(page)
    ask(page, LONG_ANSWER)
    wait(page, lambda: by_id(page, "stop").is_displayed() and answers(page)[-1].text)
    wait(page, lambda: site.metrics()["vllm:num_requests_running"] >= 1)
    by_id(page, "stop").click()
    answer = wait_answer(page)
    assert "stopped by you" in answer.find_element(By.CSS_SELECTOR, ".figures").text
    assert by_id(page, "send").is_displayed() and not by_id(page, "stop").is_displayed()
    site.wait_idle(10)


def test_settings_change_the_request_and_survive_a_reload(page, site):
    wait_ready(page)
    ask(page, QUICK)
    wait_answer(page)
    assert set(requests_sent(page)[0]) == {"model", "messages", "stream", "stream_options", "chat_template_kwargs"}
    by_id(page, "open-settings").click()
    values = {"temperature": "0.4", "top_p": "0.9", "top_k": "12", "max_tokens": "30", "seed": "7"}
    for name, value in values.items():
        by_id(page, name).send_keys(value)
    by_id(page, "system").send_keys("Answer in capital letters.")
    set_thinking(page, False)
    page.get(site.url)
    wait_ready(page)
    assert by_id(page, "thinking").get_attribute("aria-pressed") == "false"
    page.execute_script("const model = document.getElementById('model'); model.value = 'qwen3.5'; model.dispatchEvent(new Event('change'))")
    ask(page, QUICK)
    wait_answer(page)
    body = requests_sent(page)[-1]
    assert {name: body[name] for name in values} == {name: json.loads(value) for name, value in values.items()}
    assert body["model"] == "qwen3.5" and body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["messages"] == [{"role": "system", "content": "Answer in capital letters."}, {"role": "user", "content": QUICK}]
    by_id(page, "open-settings").click()
    by_id(page, "reset-settings").click()
    assert by_id(page, "temperature").get_attribute("value") == "" and by_id(page, "thinking").get_attribute("aria-pressed") == "true"


def test_an_invalid_setting_is_said_and_nothing_is_sent(page):
    wait_ready(page)
    by_id(page, "open-settings").click()
    by_id(page, "top_p").send_keys("7")
    ask(page, QUICK)
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, ".failure"))
    assert "Top p" in page.find_element(By.CSS_SELECTOR, ".failure").text
    assert requests_sent(page) == []


def test_an_error_of_the_server_is_shown_with_a_way_to_try_again(page):
    page.expected_console_errors = ("status of 400",)
    wait_ready(page)
    set_thinking(page, False)
    by_id(page, "open-settings").click()
    by_id(page, "max_tokens").send_keys("99999999")
    ask(page, QUICK)
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, ".failure"))
    assert "maximum context length" in page.find_element(By.CSS_SELECTOR, ".failure").text
    by_id(page, "max_tokens").clear()
    page.find_element(By.CSS_SELECTOR, ".failure button").click()
    wait_answer(page)
    assert len(answers(page)) == 1 and len(page.find_elements(By.CSS_SELECTOR, ".turn.user")) == 1
    assert requests_sent(page)[-1]["messages"] == [{"role": "user", "content": QUICK}]


def test_a_second_question_carries_the_first_and_its_answer(page):
    wait_ready(page)
    set_thinking(page, False)
    ask(page, QUICK)
    first = wait_answer(page)
    text = first.find_element(By.CSS_SELECTOR, ".answer").text
    ask(page, "And of Spain?")
    wait_answer(page, 2)
    roles = requests_sent(page)[-1]["messages"]
    assert [message["role"] for message in roles] == ["user", "assistant", "user"] and roles[1]["content"] == text


def test_a_new_chat_forgets_even_a_running_answer(page, site):
    wait_ready(page)
    endless(page)
    ask(page, LONG_ANSWER)
    wait(page, lambda: answers(page) and answers(page)[-1].text)
    by_id(page, "new-chat").click()
    assert answers(page) == [] and by_id(page, "welcome").is_displayed()
    assert page.switch_to.active_element == by_id(page, "input")
    site.wait_idle(10)
    requests_sent(page)
    ask(page, QUICK)
    wait(page, lambda: by_id(page, "stop").is_displayed())
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_answer(page)
    assert [message["content"] for message in requests_sent(page)[-1]["messages"]] == [QUICK]


def test_everything_works_by_keyboard(page):
    wait_ready(page)
    endless(page)
    box = page.switch_to.active_element
    box.send_keys("two", Keys.SHIFT, Keys.ENTER, Keys.NULL, "lines")
    assert box.get_attribute("value") == "two\nlines"
    box.send_keys(Keys.ENTER)
    wait(page, lambda: answers(page) and answers(page)[-1].text)
    assert page.find_element(By.CSS_SELECTOR, ".turn.user").text == "two\nlines"
    page.switch_to.active_element.send_keys(Keys.ESCAPE)  # stops
    wait_answer(page)
    assert page.switch_to.active_element == by_id(page, "input")
    seen = []
    for _ in range(30):  # Tab reaches every control, and shows where it is
        page.switch_to.active_element.send_keys(Keys.TAB)
        now = page.switch_to.active_element
        seen.append(now.get_attribute("id") or now.text)
        if now.tag_name == "button":
            assert page.execute_script("return getComputedStyle(arguments[0]).outlineStyle", now) != "none", seen
    assert {"model", "new-chat", "open-settings", "thinking", "input"} <= set(seen)
    page.execute_script("document.getElementById('open-settings').focus()")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.switch_to.active_element == by_id(page, "temperature")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not by_id(page, "settings").is_displayed() and page.switch_to.active_element == by_id(page, "open-settings")


def test_copy_puts_the_answer_on_the_clipboard(page, site):
    page.execute_cdp_cmd("Browser.grantPermissions", {"origin": site.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    wait_ready(page)
    set_thinking(page, False)
    ask(page, QUICK)
    answer = wait_answer(page)
    answer.find_element(By.XPATH, ".//button[text()='Copy']").click()
    wait(page, lambda: answer.find_elements(By.XPATH, ".//button[text()='Copied']"))
    copied = page.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == answer.find_element(By.CSS_SELECTOR, ".answer").text


MARKDOWN = """# Title
Some **bold**, *slanted* and `code <b>`.

1. one
2. two
   - nested

```html
<script>window.hacked = 1</script>
```

| a | b |
|---|---|
| 1 | 2 |

> quoted

[good](https://example.org/x) [bad](javascript:window.hacked=1) <img src=x onerror="window.hacked=1"> <script>window.hacked = 1</script>"""


def render(page, text):
    page.execute_script("const target = document.createElement('div'); target.id = 'sample'; document.getElementById('log').replaceChildren(target);"
                        "markdown.update(target, arguments[0])", text)
    return by_id(page, "sample")


def test_markdown_is_rendered_and_markup_stays_text(page):
    sample = render(page, MARKDOWN)
    for selector, text in (("h3", "Title"), ("strong", "bold"), ("em", "slanted"), ("ol > li:nth-child(1)", "one"), ("ol ul li", "nested"),
                           (".code pre", "<script>window.hacked = 1</script>"), ("td", "1"), ("blockquote", "quoted"), ("p code", "code <b>")):
        assert sample.find_element(By.CSS_SELECTOR, selector).text == text, selector
    links = [link.get_attribute("href") for link in sample.find_elements(By.TAG_NAME, "a")]
    assert links == ["https://example.org/x"]
    assert sample.find_elements(By.CSS_SELECTOR, "img, script, b") == []
    assert '<img src=x onerror="window.hacked=1">' in sample.text
    assert page.execute_script("return window.hacked") is None


@pytest.mark.parametrize("text", ["> " * 5000 + "deep", "- " * 5000, "**" * 5000, "`" * 5001, "[" * 5000, "|" * 5000 + "\n" + "-|" * 5000, "*a " * 3000, "```\nopen"])
def test_hostile_markdown_is_rendered_quickly(page, text):
    page.set_script_timeout(10)
    assert render(page, text) is not None


def test_markup_in_a_question_stays_text(page):
    wait_ready(page)
    set_thinking(page, False)
    ask(page, '<img src=x onerror="window.hacked=1">')
    wait_answer(page)
    assert page.find_element(By.CSS_SELECTOR, ".turn.user").text == '<img src=x onerror="window.hacked=1">'
    assert page.execute_script("return window.hacked") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_schemes(page, scheme):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    ratios = page.execute_script("""
      const style = getComputedStyle(document.documentElement);
      const light = (name) => {
        const hex = style.getPropertyValue(name).trim();
        const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
      return [['--ink', '--ground'], ['--ink', '--surface'], ['--ink-soft', '--ground'], ['--ink-soft', '--surface'], ['--ink-soft', '--sunken'],
              ['--on-accent', '--accent'], ['--accent-strong', '--tint'], ['--ink', '--tint'], ['--ink', '--bad-tint']].map(pair => [pair.join(' on '), ratio(...pair)]);""")
    assert [(pair, round(ratio, 2)) for pair, ratio in ratios if ratio < 4.5] == []


def test_nothing_overflows_on_a_phone(page):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True})
    try:
        wait_ready(page)
        set_thinking(page, False)
        ask(page, QUICK + " " + "x" * 300)
        wait_answer(page)
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        by_id(page, "open-settings").click()
        assert page.execute_script("return document.getElementById('settings').getBoundingClientRect().left") >= 0
        by_id(page, "close-settings").click()
        assert by_id(page, "input").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
