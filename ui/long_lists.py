"""Long lists are shown in pages: how many entries at first, and the button that shows more."""

from __future__ import annotations

PAGE_LENGTH = 50  # entries shown at first, and added by each "Show more"
MORE = '<button type="button" class="sm more" data-do="more">Show more</button>'
