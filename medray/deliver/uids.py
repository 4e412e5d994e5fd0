"""UIDs of what is delivered: a repeat is the same object, and a PACS knows it for one.

Made with this site's key, so that nobody else can tell which image an object was made of.
"""

from collections.abc import Sequence
from uuid import UUID

from medray.privacy.pseudonyms import pseudonym

_VERSION, _VARIANT = 0x8 << 76, 0x2 << 62  # RFC 9562, 5.8: a UUID of one's own making
_FREE = ~(0xF << 76 | 0x3 << 62)


def uid(key: bytes, kind: str, digest: str, of: Sequence[str]) -> str:
    """Name what a package (by its digest) makes of some UIDs; other kinds give other names.

    The order of `of` does not matter. A UUID as a UID, by PS3.5 B.2: 2.25. and at most 39 digits.
    """
    drawn = pseudonym(key, f"uid-{kind}", "\0".join((digest, *sorted(of))))
    return f"2.25.{UUID(int=int(drawn, 16) & _FREE | _VERSION | _VARIANT).int}"
