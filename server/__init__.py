"""The HTTP server around the page: guard, sessions, login, API. No Gradio components."""
