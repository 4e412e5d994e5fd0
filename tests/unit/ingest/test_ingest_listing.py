"""What is listed, what is refused unseen, and names that are unique."""

import os
import socket
import zipfile
from pathlib import Path

import pytest

from medray.errors import Code, DataError, UsageError
from medray.ingest import listing
from medray.ingest.listing import Found, Sources, list_archive


def names(found: list[Found]) -> dict[str, str | None]:
    return {each.path: each.problem and str(each.problem[0]) for each in found}


def test_folders_links_and_special_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "noextension").write_bytes(b"x")
    (tmp_path / ".staging").mkdir()
    (tmp_path / ".staging" / "unpublished").write_bytes(b"x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_bytes(b"x")
    (tmp_path / "file_link").symlink_to(tmp_path / "a" / "b" / "noextension")
    (tmp_path / "folder_link").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket is short
        server.bind("socket")
        os.chdir(here)
        refused = "not_regular_file"
        assert names(list_archive([str(tmp_path)], exclude=str(tmp_path / "out"))) == {
            "a/b/noextension": None,
            "fifo": refused,
            "file_link": refused,
            "folder_link": refused,
            "loop": refused,
            "socket": refused,
        }


def test_several_roots_have_names_of_their_own(tmp_path: Path) -> None:
    for root in ("one", "two", "x/two"):
        (tmp_path / root).mkdir(parents=True)
        (tmp_path / root / "a.dcm").write_bytes(b"x")
    roots = [str(tmp_path / root) for root in ("one", "two", "x/two")]
    found = list_archive(roots)
    assert list(names(found)) == ["a.dcm", "two-2/a.dcm", "two/a.dcm"]
    assert len({each.file_id for each in found}) == 3
    alone = list_archive(roots[:1])
    assert alone[0].file_id == found[0].file_id  # another root later changes nothing


def test_a_root_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"x")
    assert list(names(list_archive([str(tmp_path / "a.dcm")]))) == ["a.dcm"]


def test_an_archive_inside_the_output_is_listed(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a").write_bytes(b"x")
    assert list(names(list_archive([str(tmp_path / "archive")], exclude=str(tmp_path)))) == ["a"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        list_archive([str(tmp_path / "none")])
    with pytest.raises(DataError, match="no file"):
        list_archive([str(tmp_path)])


def test_a_name_that_is_not_utf8_is_one_reject(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.dcm")).write_bytes(b"x")
    (found,) = list_archive([str(tmp_path)])
    assert found.problem is not None
    assert found.problem[0] == Code.UNREADABLE
    assert found.path.encode() == b"caf\\udce9.dcm"


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_zip_members_are_files(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    path = make_zip(
        tmp_path / "a.ZIP",
        {
            "deep/one": b"1",
            "../evil": b"2",
            "/root": b"3",
            "a\\..\\b": b"4",
            "inner.zip": b"PK",
            "empty/": b"",
        },
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "deep/one")
    unsafe = "archive_unsafe"
    assert names(list_archive([str(tmp_path)])) == {
        "a.ZIP!../evil": unsafe,
        "a.ZIP!/root": unsafe,
        "a.ZIP!a/../b" if os.sep == "\\" else "a.ZIP!a\\..\\b": unsafe,
        "a.ZIP!deep/one": None,
        "a.ZIP!inner.zip": unsafe,
        "a.ZIP!link": "not_regular_file",
    }


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"one": b"1"})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # general purpose bit 0, central directory
    path.write_bytes(data)
    assert names(list_archive([str(tmp_path)])) == {"a.zip!one": "archive_unsafe"}


@pytest.mark.parametrize(("limit", "value"), [("MAX_MEMBERS", 1), ("MAX_EXPANDED_BYTES", 100_000)])
def test_a_zip_past_a_limit_is_one_reject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    make_zip(tmp_path / "a.zip", {"one": bytes(90_000), "two": bytes(90_000)})
    monkeypatch.setattr(listing, limit, value)
    assert names(list_archive([str(tmp_path)])) == {"a.zip": "archive_unsafe"}


def test_a_bomb_is_one_reject_and_its_neighbour_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_RATIO_FREE_BYTES", 1000)
    make_zip(tmp_path / "a.zip", {"bomb": bytes(1 << 20), "good": os.urandom(2000)})
    assert names(list_archive([str(tmp_path)])) == {
        "a.zip!bomb": "archive_unsafe",
        "a.zip!good": None,
    }


def test_a_corrupt_zip_is_one_reject(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"one": b"1" * 500})
    path.write_bytes(path.read_bytes()[:-30])
    assert names(list_archive([str(tmp_path)])) == {"a.zip": "archive_unsafe"}


def test_members_are_read_whole_or_in_part(tmp_path: Path) -> None:
    one = str(make_zip(tmp_path / "1.zip", {"a": b"aaaa", "b": b"bbbb"}))
    two = str(make_zip(tmp_path / "2.zip", {"a": b"cccc"}))
    (tmp_path / "plain").write_bytes(b"dddd")
    with Sources() as sources:
        assert sources.read(one, "a") == b"aaaa"
        assert sources.read(one, "b", 2) == b"bb"
        assert sources.read(two, "a") == b"cccc"
        assert sources.read(one, "a") == b"aaaa"
        assert sources.read(str(tmp_path / "plain"), None, 3) == b"ddd"
