// The list of conversations: open, rename in place, delete after a question, show more.
element.addEventListener('click', (event) => {
    const item = event.target.closest('li');
    const button = event.target.closest('button[data-do]');
    if (button?.dataset.do === 'more') return trigger('more');
    if (!item || !button) return;
    const {id} = item.dataset;
    if (button.dataset.do === 'open') return trigger('open', {id});
    if (button.dataset.do === 'delete') {
        const stays = 'What was learned from it stays, and so do backups that hold it (Learning tab).';
        const forget = 'It cannot be forgotten afterwards: to forget it, press Forget in the Learning tab first.';
        if (confirm(`Delete the conversation “${item.dataset.title}”? ${stays} ${forget}`)) trigger('remove', {id});
        return;
    }
    const input = Object.assign(document.createElement('input'), {value: item.dataset.title, maxLength: 48});
    input.setAttribute('aria-label', 'New title');
    const open = item.querySelector('[data-do=open]');
    item.classList.add('renaming');
    item.append(input);
    input.select();
    let isOver = false;
    const end = (keep) => {
        if (isOver) return;
        isOver = true;
        const title = input.value.trim();
        input.remove();
        item.classList.remove('renaming');
        open.focus();
        if (keep && title && title !== item.dataset.title) trigger('rename', {id, title});
    };
    input.addEventListener('keydown', (key) => {
        if (key.key === 'Enter') {
            key.preventDefault();  // or it would press the title, which has the focus then
            end(true);
        }
        if (key.key === 'Escape') end(false);
    });
    input.addEventListener('blur', () => end(true));
});
