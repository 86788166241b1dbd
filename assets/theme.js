// Light or dark: as the system says until the visitor chooses; the choice stays in this browser.
const KEY = 'spear-theme';
const apply = (theme) => document.body.classList.toggle('dark', theme === 'dark');
try {
    const chosen = localStorage.getItem(KEY);
    if (chosen) apply(chosen);
} catch { /* storage is blocked: the system's choice stays */ }
element.addEventListener('click', (event) => {
    if (!event.target.closest('[data-do=theme]')) return;
    const theme = document.body.classList.contains('dark') ? 'light' : 'dark';
    apply(theme);
    try { localStorage.setItem(KEY, theme); } catch { /* for this page only */ }
});
