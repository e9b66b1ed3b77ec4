// The chat: state, the request, the stream, and what the reader sees of it. No library, no storage but the settings.
'use strict';

const $ = (id) => document.getElementById(id);
const { element } = markdown;
const SAMPLING = ['temperature', 'top_p', 'top_k', 'max_tokens', 'seed'];
const SUGGESTIONS = ['Who are you?', 'What is the capital of France?', 'What is 7 plus 5?'];

let conversation = [];  // {role, content} as sent; the last one may be an answer that is still growing
let running = null;     // {abort} while an answer streams
let thinkingOn = true;

// ---- settings: kept in this browser, sent with every request ----

function saveSettings() {
  const settings = { thinking: thinkingOn, system: $('system').value };
  for (const id of SAMPLING) settings[id] = $(id).value;
  try { localStorage.setItem('weir.settings', JSON.stringify(settings)); } catch { /* private window: they last until it closes */ }
}

function loadSettings() {
  let settings = {};
  try { settings = JSON.parse(localStorage.getItem('weir.settings')) || {}; } catch { /* none, or not ours */ }
  for (const id of SAMPLING) $(id).value = settings[id] || '';
  $('system').value = settings.system || '';
  setThinking(settings.thinking !== false);
}

function setThinking(on) {
  thinkingOn = on;
  $('thinking').setAttribute('aria-pressed', String(on));
}

function showSettings(open) {
  $('settings').hidden = !open;
  $('open-settings').setAttribute('aria-expanded', String(open));
  (open ? $('temperature') : $('open-settings')).focus();
}

function requestBody() {
  const messages = conversation.filter((message) => message.content).map(({ role, content }) => ({ role, content }));
  const system = $('system').value.trim();
  if (system) messages.unshift({ role: 'system', content: system });
  const body = {
    model: $('model').value,
    messages,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    chat_template_kwargs: { enable_thinking: thinkingOn },
  };
  for (const id of SAMPLING) {
    if (!$(id).validity.valid) throw new Error(`The setting "${$(id).closest('label').querySelector('span').firstChild.textContent}" has no valid value.`);
    if ($(id).value !== '') body[id] = Number($(id).value);
  }
  return body;
}

// ---- the stream ----

async function errorOf(response) {
  const text = await response.text();
  try { return JSON.parse(text).error.message; } catch { return text.trim().slice(0, 300) || `The server answered ${response.status}.`; }
}

// Calls onEvent with the JSON of every server-sent event until [DONE].
async function readEvents(response, onEvent) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffered = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error('The connection ended before the answer did.');
    buffered += value;
    const lines = buffered.split(/\r\n|\n/);
    buffered = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;
      const data = line.slice(5).trim();
      if (data === '[DONE]') return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message || 'The server reported an error.');
      onEvent(event);
    }
  }
}

async function streamAnswer(answer, signal) {
  const sent = performance.now();
  const response = await fetch('v1/chat/completions', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(requestBody()), signal,
  });
  if (!response.ok) throw new Error(await errorOf(response));
  await readEvents(response, (event) => {
    const choice = event.choices && event.choices[0];
    const delta = (choice && choice.delta) || {};
    const thought = delta.reasoning || delta.reasoning_content || '';
    const text = delta.content || '';
    if (thought || text) {
      answer.lastAt = performance.now();
      answer.firstAt ||= answer.lastAt;
      answer.sent = sent;
      answer.pieces++;
      answer.reasoning += thought;
      answer.content += text;
      if (answer.content.trim()) answer.contentAt ||= answer.lastAt;
    }
    if (event.usage) {
      answer.tokens = event.usage.completion_tokens;
      answer.asked = event.usage.prompt_tokens;
      answer.cached = (event.usage.prompt_tokens_details || {}).cached_tokens || 0;
      answer.guessed = (event.usage.completion_tokens_details || {}).accepted_prediction_tokens;
    }
    if (choice && choice.finish_reason) answer.finish = choice.finish_reason;
    answer.draw();
  });
}

// ---- what the reader sees ----

function nearEnd() {
  const box = $('scroll');
  return box.scrollHeight - box.scrollTop - box.clientHeight < 60;
}

function toEnd() { $('scroll').scrollTop = $('scroll').scrollHeight; }

// Adds the place of an answer to the log. Its fields hold what came; draw() shows them, once per frame at most.
function newAnswer() {
  const summary = element('span', '', 'Thinking…');
  const thoughtBody = element('div', 'body');
  const thought = element('details', 'thought live', element('summary', '', summary), thoughtBody);
  const waiting = element('div', 'waiting', element('i', ''), element('i', ''), element('i', ''));
  const text = element('div', 'answer');
  const turn = element('article', 'turn assistant', thought, waiting, text);
  turn.setAttribute('aria-label', 'Answer');
  waiting.setAttribute('aria-label', 'waiting for the first token');
  waiting.setAttribute('role', 'img');
  thought.hidden = true;
  $('log').append(turn);

  const answer = { turn, reasoning: '', content: '', pieces: 0, tokens: 0, finish: null, done: false };
  let frame = 0;
  const show = () => {
    frame = 0;
    const follow = nearEnd();
    const content = answer.content.trim();
    waiting.hidden = Boolean(answer.firstAt) || answer.done;
    thought.hidden = !answer.reasoning.trim();
    if (!thought.hidden) {
      const thinking = !answer.contentAt && !answer.done;
      const seconds = (((answer.contentAt || answer.lastAt) - answer.firstAt) / 1000).toFixed(1);
      thought.classList.toggle('live', thinking);
      summary.textContent = thinking ? `Thinking… ${seconds} s` : `Thought for ${seconds} s`;
      thoughtBody.textContent = answer.reasoning.trim();
    }
    markdown.update(text, content);
    if (follow) toEnd();
  };
  answer.draw = () => { frame ||= requestAnimationFrame(show); };
  answer.settle = () => { answer.done = true; cancelAnimationFrame(frame); show(); };
  return answer;
}

function figures(answer) {
  const tokens = answer.tokens || answer.pieces;
  const parts = [`${tokens} token${tokens === 1 ? '' : 's'}`];
  // A short answer may come in one piece: then the time since the question is all that is known.
  const seconds = (answer.lastAt - (answer.lastAt > answer.firstAt ? answer.firstAt : answer.sent)) / 1000;
  if (tokens > 1 && seconds > 0) parts.push(`${((tokens - 1) / seconds).toFixed(1)} token/s`);
  if (answer.firstAt) parts.push(`first token after ${Math.round(answer.firstAt - answer.sent)} ms`);
  if (answer.cached) parts.push(`${answer.cached} of ${answer.asked} prompt tokens cached`);
  if (answer.guessed !== undefined) parts.push(`${answer.guessed} tokens guessed ahead`);
  if (answer.finish === 'length') parts.push('stopped at the token limit');
  if (answer.finish === 'stopped') parts.push('stopped by you');
  return parts.join(' · ');
}

function button(label, action) {
  const node = element('button', 'plain', label);
  node.type = 'button';
  node.addEventListener('click', action);
  return node;
}

function copyButton(text) {
  const node = button('Copy', () => {});
  node.dataset.copy = text;
  return node;
}

async function copyText(node) {
  let copied = 'Copied';
  try {
    await navigator.clipboard.writeText(node.dataset.copy);
  } catch {  // no clipboard outside https and localhost: the old way
    const area = element('textarea', 'unseen', node.dataset.copy);
    document.body.append(area);
    area.select();
    if (!document.execCommand('copy')) copied = 'Not allowed';
    area.remove();
    node.focus();
  }
  const label = node.textContent;
  node.textContent = copied;
  announce(copied);
  setTimeout(() => { node.textContent = label; }, 1200);
}

function announce(text) { $('announce').textContent = text; }

// ---- one turn ----

async function ask() {
  $('welcome').hidden = true;
  for (const old of document.querySelectorAll('.again')) old.remove();
  const answer = newAnswer();
  const controller = new AbortController();
  const mine = conversation;
  running = { abort: () => controller.abort() };
  showRunning(true);
  announce('Waiting for the answer');
  toEnd();
  let failure = null;
  try {
    await streamAnswer(answer, controller.signal);
  } catch (error) {
    if (controller.signal.aborted) answer.finish = 'stopped';
    else failure = error instanceof TypeError ? 'The server cannot be reached.' : error.message;
  }
  answer.settle();
  if (mine !== conversation) return;  // a new chat was begun meanwhile
  running = null;
  showRunning(false);
  if (answer.content) conversation.push({ role: 'assistant', content: answer.content.trim() });
  finishTurn(answer, failure);
}

function finishTurn(answer, failure) {
  const again = () => {
    if (answer.content && conversation[conversation.length - 1].role === 'assistant') conversation.pop();
    answer.turn.remove();
    ask();
    $('input').focus();
  };
  const follow = nearEnd();
  if (failure) {
    const retry = button('Try again', again);
    retry.classList.add('again');
    answer.turn.append(element('div', 'failure', element('span', '', failure), retry));
    announce(`Error: ${failure}`);
  }
  if (answer.firstAt || !failure) {
    const foot = element('div', 'foot', element('span', 'figures', figures(answer)));
    if (answer.content.trim()) foot.append(copyButton(answer.content.trim()));
    if (!failure) {
      const retry = button('Again', again);
      retry.classList.add('again');
      foot.append(retry);
    }
    answer.turn.append(foot);
    if (!failure) announce(`Answer complete: ${answer.content.trim().slice(0, 400)}`);
  }
  if (follow) toEnd();
}

function showRunning(on) {
  $('stop').hidden = !on;
  $('send').hidden = on;
  $('send').disabled = !$('input').value.trim();
}

function send() {
  const text = $('input').value.trim();
  if (!text || running) return;
  // A question that got no answer is asked together with the next one's, as one message: roles alternate.
  const last = conversation[conversation.length - 1];
  if (last && last.role === 'user') last.content += `\n\n${text}`;
  else conversation.push({ role: 'user', content: text });
  const turn = element('article', 'turn user', element('div', 'said', text));
  turn.setAttribute('aria-label', 'You');
  $('log').append(turn);
  $('input').value = '';
  fitInput();
  ask();
}

function newChat() {
  if (running) running.abort();
  running = null;
  conversation = [];
  $('log').replaceChildren();
  $('welcome').hidden = false;
  showRunning(false);
  announce('New chat');
  $('input').focus();
}

function fitInput() {
  const input = $('input');
  input.style.height = 'auto';
  input.style.height = `${input.scrollHeight}px`;
  $('send').disabled = !input.value.trim();
}

// ---- models and health ----

async function loadModels() {
  const response = await fetch('v1/models');
  if (!response.ok) return;
  const ids = (await response.json()).data.map((model) => model.id);
  const chosen = $('model').value;
  $('model').replaceChildren(...ids.map((id) => new Option(id, id)));
  if (ids.includes(chosen)) $('model').value = chosen;
  $('welcome-model').textContent = $('model').value || 'weir';
}

async function watchHealth() {
  let state = 'offline';
  try {
    const response = await fetch('health', { cache: 'no-store' });
    state = response.ok ? 'ready' : response.status === 503 ? 'loading' : 'offline';
  } catch { /* offline */ }
  if ($('health').dataset.state !== state) {
    $('health').dataset.state = state;
    $('health-text').textContent = state;
    if (state === 'ready') await loadModels().catch(() => {});
  }
  setTimeout(watchHealth, state === 'ready' ? 5000 : 1000);
}

// ---- wiring ----

$('composer').addEventListener('submit', (event) => { event.preventDefault(); send(); });
$('input').addEventListener('input', fitInput);
$('input').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$('stop').addEventListener('click', () => { if (running) running.abort(); $('input').focus(); });
$('new-chat').addEventListener('click', newChat);
$('thinking').addEventListener('click', () => { setThinking(!thinkingOn); saveSettings(); });
$('open-settings').addEventListener('click', () => showSettings($('settings').hidden));
$('close-settings').addEventListener('click', () => showSettings(false));
$('settings').addEventListener('input', saveSettings);
$('reset-settings').addEventListener('click', () => {
  for (const id of [...SAMPLING, 'system']) $(id).value = '';
  setThinking(true);
  saveSettings();
});
$('model').addEventListener('change', () => { $('welcome-model').textContent = $('model').value; });
$('scroll').addEventListener('scroll', () => { $('to-end').hidden = nearEnd(); }, { passive: true });
$('to-end').addEventListener('click', () => { toEnd(); $('input').focus(); });
document.addEventListener('click', (event) => { if (event.target.dataset.copy !== undefined) copyText(event.target); });
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  if (!$('settings').hidden && $('settings').contains(document.activeElement)) showSettings(false);
  else if (running) running.abort();
  else if (!$('settings').hidden) showSettings(false);
});

$('suggestions').append(...SUGGESTIONS.map((text) => {
  const node = element('button', '', text);
  node.type = 'button';
  node.addEventListener('click', () => { $('input').value = text; send(); $('input').focus(); });
  return node;
}));
loadSettings();
showRunning(false);
watchHealth();
