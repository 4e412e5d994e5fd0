"""An absent optional library is named, with what to install."""

import sys

import pytest

from medray import extras
from medray.errors import UsageError


def test_what_is_absent_is_named(monkeypatch: pytest.MonkeyPatch):
    extras.require("serve")
    extras.require("molecules")
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "jwt" else sys)
    with pytest.raises(UsageError, match=r"a service needs jwt\n.*medray\[serve\]"):
        extras.require("serve")
    extras.require("molecules")
