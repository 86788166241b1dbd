"""Icons, scripts and styles of the page."""
