"""What only an owner may do. No services, no requests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from services.accounts.users_file import User
from spear_core.errors import SpearError

P = ParamSpec("P")
R = TypeVar("R")


class NotAllowed(SpearError):
    """Something that only an owner may do."""


class OfUser(Protocol):
    """An object that acts for one user."""

    @property
    def user(self) -> User: ...


S = TypeVar("S", bound=OfUser)


def require_owner(user: User, what: str) -> None:
    """Raises NotAllowed unless the user is an owner; `what` completes "Only an owner may ..."."""
    if not user.is_owner:
        raise NotAllowed(f"Only an owner may {what}; ask one of them.")


def owner_only(what: str) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """For a method of an object that acts for one user: it raises NotAllowed unless that user is an owner.

    `what` completes the sentence "Only an owner may ...".
    """

    def decorate(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        @functools.wraps(method)
        def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Any:
            require_owner(self.user, what)
            return method(self, *args, **kwargs)

        return guarded

    return decorate
