// Markdown as models write it, into DOM nodes. Text only ever becomes text nodes, so nothing a model says can become markup or script.
'use strict';

const markdown = (() => {
  function element(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  }

  const INLINE = /(`+)([\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|\*(?=[^\s*])([^*\n]*[^\s*])\*|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>"')\]]+[^\s<>"')\].,;:!?])/;

  function inline(text) {
    const nodes = [];
    for (let match; (match = INLINE.exec(text)); text = text.slice(match.index + match[0].length)) {
      if (match.index) nodes.push(text.slice(0, match.index));
      if (match[1]) nodes.push(element('code', '', match[2].trim()));
      else if (match[3]) nodes.push(element('strong', '', ...inline(match[3])));
      else if (match[4]) nodes.push(element('em', '', ...inline(match[4])));
      else {
        const link = element('a', '', match[5] || match[7]);
        link.href = match[6] || match[7];
        link.target = '_blank';
        link.rel = 'noopener noreferrer';
        nodes.push(link);
      }
    }
    if (text) nodes.push(text);
    return nodes;
  }

  // Cuts a text into blocks: fenced code as one block each, everything else at blank lines.
  function blocks(text) {
    const found = [];
    let lines = [], fence = null;
    const flush = () => { if (lines.length) found.push(lines.join('\n')); lines = []; };
    for (const line of text.split('\n')) {
      const mark = /^\s*(`{3,}|~{3,})/.exec(line);
      if (fence) {
        lines.push(line);
        if (mark && line.trim() === mark[1] && mark[1].startsWith(fence)) { fence = null; flush(); }
      } else if (mark) {
        flush();
        fence = mark[1];
        lines.push(line);
      } else if (!line.trim()) {
        flush();
      } else {
        lines.push(line);
      }
    }
    flush();
    return found;
  }

  function codeBlock(source) {
    const lines = source.split('\n');
    const language = lines[0].replace(/^\s*[`~]+/, '').trim();
    const closed = lines.length > 1 && /^\s*(`{3,}|~{3,})\s*$/.test(lines[lines.length - 1]);
    const code = lines.slice(1, closed ? -1 : undefined).join('\n');
    const copy = element('button', 'plain', 'Copy');
    copy.type = 'button';
    copy.dataset.copy = code;
    return element('div', 'code', element('div', 'code-head', element('span', '', language || 'text'), copy), element('pre', '', element('code', '', code)));
  }

  const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

  const MAX_DEPTH = 12;  // of lists and quotes in each other; deeper ones stay text

  function list(lines, level) {
    const depth = ITEM.exec(lines[0])[1].length;
    const ordered = /\d/.test(ITEM.exec(lines[0])[2]);
    const node = element(ordered ? 'ol' : 'ul', '');
    if (ordered) node.start = parseInt(ITEM.exec(lines[0])[2], 10);
    for (let i = 0; i < lines.length;) {
      const inner = [];
      const first = ITEM.exec(lines[i++])[3];
      while (i < lines.length && !(ITEM.test(lines[i]) && ITEM.exec(lines[i])[1].length <= depth)) inner.push(lines[i++]);
      const nested = level < MAX_DEPTH ? inner.findIndex((line) => ITEM.test(line)) : -1;
      const more = nested < 0 ? inner : inner.slice(0, nested);
      node.append(element('li', '', ...inline([first, ...more.map((line) => line.trim())].join('\n')), ...(nested < 0 ? [] : [list(inner.slice(nested), level + 1)])));
    }
    return node;
  }

  function table(lines) {
    const cells = (line) => line.trim().replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());
    const row = (line, tag) => element('tr', '', ...cells(line).map((cell) => element(tag, '', ...inline(cell))));
    return element('div', 'table', element('table', '', element('thead', '', row(lines[0], 'th')), element('tbody', '', ...lines.slice(2).map((line) => row(line, 'td')))));
  }

  function paragraph(lines) {
    const node = element('p', '');
    lines.forEach((line, i) => node.append(...(i ? [element('br', '')] : []), ...inline(line)));
    return node;
  }

  // One block may hold a heading, a paragraph and a list without blank lines between them.
  function render(source, level) {
    if (/^\s*(`{3,}|~{3,})/.test(source)) return element('div', '', codeBlock(source));
    const node = element('div', '');
    const lines = source.split('\n');
    for (let i = 0; i < lines.length;) {
      const start = i;
      const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(lines[i]);
      if (heading) {
        node.append(element(`h${Math.min(heading[1].length + 2, 5)}`, '', ...inline(heading[2])));
        i++;
      } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(lines[i])) {
        node.append(element('hr', ''));
        i++;
      } else if (ITEM.test(lines[i])) {
        while (i < lines.length && (ITEM.test(lines[i]) || /^\s+\S/.test(lines[i]))) i++;
        node.append(list(lines.slice(start, i), level));
      } else if (/^\s*>/.test(lines[i]) && level < MAX_DEPTH) {
        while (i < lines.length && /^\s*>/.test(lines[i])) i++;
        const quoted = lines.slice(start, i).map((line) => line.replace(/^\s*> ?/, '')).join('\n');
        node.append(element('blockquote', '', ...blocks(quoted).map((block) => render(block, level + 1))));
      } else if (/\|/.test(lines[i]) && /^[\s|:-]*-[\s|:-]*$/.test(lines[i + 1] || '') && /\|/.test(lines[i + 1])) {
        while (i < lines.length && /\|/.test(lines[i])) i++;
        node.append(table(lines.slice(start, i)));
      } else {
        do i++; while (i < lines.length && !ITEM.test(lines[i]) && !/^(#{1,6}\s|\s*>)/.test(lines[i]));
        node.append(paragraph(lines.slice(start, i)));
      }
    }
    return node;
  }

  // Shows `text` in `target`. While an answer grows only its last block changes, so the others stay as they are.
  function update(target, text) {
    const wanted = blocks(text);
    wanted.forEach((source, i) => {
      const shown = target.children[i];
      if (shown && shown.markdownSource === source) return;
      const fresh = render(source, 0);
      fresh.markdownSource = source;
      if (shown) shown.replaceWith(fresh);
      else target.append(fresh);
    });
    while (target.children.length > wanted.length) target.lastChild.remove();
  }

  return { element, update };
})();
