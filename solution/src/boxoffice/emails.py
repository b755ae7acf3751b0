"""E-mail addresses."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

# What <input type="email"> accepts (HTML, 4.10.5.1.5), with at least one dot in the domain. Whether the address
# exists only a message to it can tell.
EmailAddress = Annotated[
    str,
    StringConstraints(
        max_length=254, pattern=rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+$"
    ),
]
