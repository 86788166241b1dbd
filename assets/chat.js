// The talk: draws rows by key, hears the buttons in them, keeps the end in sight. Runs inside Gradio's HTML component,
// which gives `element`, `props`, `trigger` and `watch`.
const log = element.querySelector('.log');
const empty = element.querySelector('.nothing-said');
const EVENTS = ['vote', 'judge', 'learn', 'more', 'again', 'go_on', 'compare', 'branch', 'rewrite', 'example'];  // what the server hears of
let shownConversation = null;
let shownState = null, wholeState = null;  // what the rows show now, and what they showed when all of them came

const nearEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 120;
// The end is followed until the reader scrolls away from it. A row may turn out longer than it was taken for once it is
// laid out, so the place is kept when sizes change too.
const SCROLLING_MS = 1000;  // so long after a wheel, a finger or a key, scrolling is the reader's
let isFollowing = true, readerActed = -Infinity;
const toEnd = () => { isFollowing = true; log.scrollTop = log.scrollHeight; };
for (const what of ['wheel', 'touchmove', 'keydown', 'pointerdown']) {
    log.addEventListener(what, () => { readerActed = performance.now(); }, {passive: true});
}
log.addEventListener('pointerdown', () => { isFollowing = nearEnd(); });
log.addEventListener('scroll', () => {
    if (performance.now() - readerActed < SCROLLING_MS) isFollowing = nearEnd();
}, {passive: true});
const sizes = new ResizeObserver(() => { if (isFollowing) log.scrollTop = log.scrollHeight; });
sizes.observe(log);

function fill(node, row) {
    if (node.drawn === row.html) return;
    const focused = node.contains(document.activeElement) ? document.activeElement.dataset.do : null;
    const value = focused && document.activeElement.dataset.value;
    const isThoughtOpen = node.querySelector('details.thought')?.open;
    node.innerHTML = node.drawn = row.html;
    if (isThoughtOpen) node.querySelector('details.thought')?.setAttribute('open', '');
    if (focused) {  // the same button again, so that the keyboard does not lose its place
        const same = [...node.querySelectorAll(`[data-do="${focused}"]`)];
        (same.find((b) => focused !== 'vote' || (b.dataset.value > 0) === (value > 0)) ?? same[0])?.focus();
    }
}

// Only the rows that changed came. They fit if the page shows what they build on; else it asks for all of them.
function change({rows, busy, state, after}) {
    const known = new Map([...log.children].map((node) => [node.dataset.key, node]));
    if (![shownState, wholeState].includes(after) || rows.some((row) => !known.has(row.key))) return trigger('whole', {});
    for (const row of rows) {
        known.get(row.key).text = row.text;
        fill(known.get(row.key), row);
    }
    log.setAttribute('aria-busy', String(busy));
    shownState = state;
    if (isFollowing) toEnd();
}

function draw() {
    if (props.value?.invitation) {  // alone: the rows stay as they are
        empty.innerHTML = props.value.invitation;
        return;
    }
    if (props.value?.after) return change(props.value);
    const {rows = [], busy = false, of = '', state = ''} = props.value || {};
    const stay = isFollowing || of !== shownConversation || rows.length > log.children.length;
    const known = new Map([...log.children].map((node) => [node.dataset.key, node]));
    let at = log.firstElementChild;
    for (const row of rows) {
        let node = known.get(row.key);
        known.delete(row.key);
        if (!node) {
            node = document.createElement('div');
            node.className = 'row';
            node.dataset.key = row.key;
            sizes.observe(node);
        }
        if (node === at) at = at.nextElementSibling;
        else log.insertBefore(node, at);
        node.text = row.text;
        fill(node, row);
    }
    known.forEach((node) => {
        sizes.unobserve(node);
        node.remove();
    });
    log.setAttribute('aria-busy', String(busy));
    if (props.value?.empty) empty.innerHTML = props.value.empty;
    empty.hidden = rows.length > 0;
    log.hidden = rows.length === 0;
    if (of !== shownConversation) document.querySelector('#compare-dialog dialog')?.close();
    shownConversation = document.body.dataset.conversation = of;
    shownState = wholeState = state;
    if (stay) toEnd();
}

async function copy(text, button) {
    try {
        await navigator.clipboard.writeText(text);
    } catch {  // not a secure context
        const area = Object.assign(document.createElement('textarea'), {value: text});
        document.body.append(area);
        area.select();
        document.execCommand('copy');
        area.remove();
    }
    button.classList.add('done');
    setTimeout(() => button.classList.remove('done'), 1200);
}

element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-do]');
    if (!button) return;
    const {do: what, id, value, text} = button.dataset;
    if (what === 'copy') return copy(button.closest('.row').text, button);
    if (what === 'copy-code') return copy(button.closest('pre').querySelector('code').textContent, button);
    if (what === 'details') {
        const told = button.closest('.row').querySelector('.details');
        told.hidden = !told.hidden;
        return button.setAttribute('aria-expanded', String(!told.hidden));
    }
    if (what === 'vote') button.classList.add('pressed');  // answers at once; the stored vote follows
    if (EVENTS.includes(what)) trigger(what, {id, value, text});
});

// The two links under Settings that download the conversation; none is shown before its first message.
document.addEventListener('click', (event) => {
    const form = event.target.closest?.('[data-export]')?.dataset.export;
    if (!form || !shownConversation) return;
    const path = `v1/conversations/${shownConversation}/export?format=${form}`;
    Object.assign(document.createElement('a'), {href: new URL(path, document.baseURI), download: ''}).click();
});

const isSeen = (selector) => Boolean(document.querySelector(selector)?.offsetParent);

// Keys for the whole page; the list of them stands under Settings.
document.addEventListener('keydown', (event) => {
    const isTyping = event.target.closest('input, textarea, select, [contenteditable]');
    const press = (selector) => document.querySelector(selector)?.click();
    if (event.key === 'Escape' && !document.querySelector('dialog[open]')) {
        // a reply that is being written first, then what is being edited
        const open = ['#message .stop-button', '#cancel-edit', '#not-now', '#cancel-rewriting'].find((s) => isSeen(s));
        if (open) press(open);
    }
    else if (event.key === '/' && !isTyping) {
        event.preventDefault();
        document.querySelector('#message textarea')?.focus();
    } else if (event.key.toLowerCase() === 'o' && event.shiftKey && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        press('#new-conversation');
    } else if (event.key === 'ArrowUp' && event.target.matches('#message textarea') && !event.target.value) {
        const mine = log.querySelectorAll('[data-do=rewrite]');
        mine[mine.length - 1]?.click();
    }
});

// What was typed and not sent outlives the page, which loads itself again when the server was away.
const DRAFT = 'spear-draft';
const composer = () => document.querySelector('#message textarea');
function restoreDraft(text, tries) {
    const box = composer();
    if (!box) {
        if (tries) setTimeout(restoreDraft, 50, text, tries - 1);
    } else if (!box.value) {
        box.value = text;
        box.dispatchEvent(new Event('input', {bubbles: true}));
    }
}
try {
    addEventListener('pagehide', () => sessionStorage.setItem(DRAFT, composer()?.value ?? ''));
    const kept = sessionStorage.getItem(DRAFT);
    if (kept) restoreDraft(kept, 100);
} catch { /* storage is blocked: drafts live as long as the page */ }

watch('value', draw);
draw();
