"""The login page: name and password in, a cookie with a random session out. Looks like the page; needs no script."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from server.current_user import Access
from server.login_tries import LoginTries, counted_under
from services.accounts.known_browsers import BROWSER_SECONDS
from services.accounts.login_sessions import SESSION_SECONDS
from services.accounts.users_file import MAX_PASSWORD_CHARACTERS

AT_ONCE = 2  # passwords hashed at the same time: each takes 64 MB
MOST_WAITING = 16  # to be hashed; more are turned away at once
MAX_FORM_BYTES = 8192
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh;
background:#f8fafc;color:#0f172a}
form{display:grid;gap:.75rem;width:min(20rem,90vw)} h1{font-size:1.25rem;margin:0} p{margin:0}
label{display:grid;gap:.25rem} input,button{font:inherit;padding:.6rem .75rem;border-radius:.6rem;border:1px solid #94a3b8}
button{background:#0f766e;color:#fff;border:0;cursor:pointer} .wrong{color:#b91c1c} small{color:#475569}
@media(prefers-color-scheme:dark){body{background:#0f172a;color:#e2e8f0} input{background:#1e293b;color:inherit}
small{color:#94a3b8} .wrong{color:#fca5a5}}
"""
LOGOUT_FORM = '<form method="post" action="logout"><h1>SPEAR chat</h1><button>Log out</button></form>'
SHARED = "Your conversations are yours alone. What the model learns from anyone, it answers to everyone."


def login_routes(access: Access) -> list[Route]:
    """`/login` and `/logout`; none where there are no logins."""
    accounts, sessions = access.accounts, access.sessions
    if accounts is None or sessions is None:
        return []
    tries, hashing = LoginTries(), CapacityLimiter(AT_ONCE)
    asking: set[object] = set()  # requests whose password is hashed or waits; the limiter counts them only a step later

    async def show(request: Request) -> Response:
        return RedirectResponse("/", 303) if request.state.user else HTMLResponse(_form())

    async def take(request: Request) -> Response:
        name, password = await _fields(request)
        asked, browser = accounts.user(name), request.cookies.get(access.browser_cookie, "")
        is_known = access.browsers.knows(browser, asked.id if asked else None)
        limits = counted_under(name, request.client.host if request.client else "", browser if is_known else "")
        if len(asking) >= AT_ONCE + MOST_WAITING:
            return HTMLResponse(_form(name, "Too many people log in at the moment. Try again in a few seconds."), 503)
        if len(password) > MAX_PASSWORD_CHARACTERS:  # nobody's; looked at no further, so it is no guess either
            return HTMLResponse(_form(name, "That name and password do not belong together."), 401)
        if not tries.begin(limits):
            return HTMLResponse(_form(name, "Too many wrong passwords. Wait half a minute and try again."), 429)
        asking.add(request)
        try:
            user = await to_thread.run_sync(accounts.by_password, name, password, limiter=hashing)
        finally:
            asking.discard(request)
        if user is None:
            return HTMLResponse(_form(name, "That name and password do not belong together."), 401)
        tries.was_right(limits)
        await run_in_threadpool(sessions.end, request.cookies.get(access.cookie, ""))  # the browser's earlier one
        response = RedirectResponse("/", 303)
        for cookie, value, seconds in (
            (access.cookie, await run_in_threadpool(sessions.begin, user), SESSION_SECONDS),
            (access.browser_cookie, await run_in_threadpool(access.browsers.remember, browser, user), BROWSER_SECONDS),
        ):
            secure = request.url.scheme == "https"
            response.set_cookie(cookie, value, max_age=seconds, httponly=True, samesite="lax", secure=secure)
        return response

    async def ask_to_leave(request: Request) -> Response:
        return HTMLResponse(_page(LOGOUT_FORM)) if request.state.user else RedirectResponse("/login", 303)

    async def leave(request: Request) -> Response:
        await run_in_threadpool(sessions.end, request.cookies.get(access.cookie, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(access.cookie)
        return response

    return [
        Route("/login", show, methods=["GET"]),
        Route("/login", take, methods=["POST"]),
        Route("/logout", ask_to_leave, methods=["GET"]),
        Route("/logout", leave, methods=["POST"]),
    ]


async def _fields(request: Request) -> tuple[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return "", ""
    form = parse_qs(body.decode("utf-8", "replace"))
    return form.get("name", [""])[0].strip(), form.get("password", [""])[0]


def _form(name: str = "", wrong: str = "") -> str:
    complaint = f'<p class="wrong" role="alert">{escape(wrong)}</p>' if wrong else ""
    return _page(
        f'<form method="post" action="login"><h1>SPEAR chat</h1>{complaint}'
        f'<label>Name<input name="name" value="{escape(name[:64])}" autocomplete="username" required autofocus></label>'
        '<label>Password<input name="password" type="password" autocomplete="current-password" required></label>'
        f"<button>Log in</button><small>{escape(SHARED)}</small></form>"
    )


def _page(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>SPEAR chat: log in</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"{body}</body></html>"
    )
