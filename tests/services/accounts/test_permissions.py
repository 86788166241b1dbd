"""What is marked for owners is done for owners only."""

from __future__ import annotations

import pytest

from services.accounts.permissions import NotAllowed, owner_only
from services.accounts.users_file import User


class Lamp:
    def __init__(self, user: User) -> None:
        self.user = user
        self.is_on = False

    @owner_only("switch the lamp")
    def switch(self, on: bool = True) -> str:
        """Switch it."""
        self.is_on = on
        return "switched"


def test_an_owner_does_it_and_gets_the_result() -> None:
    lamp = Lamp(User("anna", "owner"))
    assert lamp.switch() == "switched" and lamp.is_on
    assert lamp.switch(on=False) == "switched" and not lamp.is_on


def test_a_guest_is_told_whom_to_ask_and_nothing_happens() -> None:
    lamp = Lamp(User("cora", "guest"))
    with pytest.raises(NotAllowed, match="Only an owner may switch the lamp; ask one of them"):
        lamp.switch()
    assert not lamp.is_on


def test_a_marked_method_keeps_its_name_and_documentation() -> None:
    assert (Lamp.switch.__name__, Lamp.switch.__doc__) == ("switch", "Switch it.")
