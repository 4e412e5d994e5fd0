"""The audit: lines that are only appended, and what shows when they are not."""

import hashlib
import json
import resource
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medray.errors import UsageError
from medray.serve.access.audit import Audit, AuditError
from medray.serve.access.verify import verify

Run = Callable[..., tuple[int, str, str]]


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 23, 59, 58, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def _written(folder: Path, lines: int, file_bytes: int = 600) -> list[Path]:
    audit = Audit(folder, file_bytes=file_bytes)
    for number in range(lines):
        audit.write({"request_id": f"r{number}", "caller": "ward"})
    audit.close()
    return sorted(folder.iterdir(), key=lambda path: int(path.stem.rsplit("-", 1)[1]))


def test_the_chain_by_hand(tmp_path: Path) -> None:
    files = _written(tmp_path / "a", 10)
    assert len(files) > 2
    before, seen = "0" * 64, []
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for line in file.read_bytes().split(b"\n")[:-1]:
            content = json.loads(line)
            assert content["before"] == before
            before = hashlib.sha256(line).hexdigest()
            seen.append(content.get("request_id"))
    assert [one for one in seen if one] == [f"r{number}" for number in range(10)]
    found = verify(tmp_path / "a")
    assert found.sound
    assert list(found.ends.values()) == [before]
    assert (found.files, found.lines) == (len(files), 10 + len(files))


def test_a_day_a_file_and_old_ones_go(tmp_path: Path) -> None:
    clock = Clock()
    other = tmp_path / "2020-01-01-notes.txt"
    other.write_text("not ours")
    audit = Audit(tmp_path, keep_days=2, now=clock)
    for day in range(6):
        audit.write({"n": day})
        clock.now += timedelta(days=1)
    audit.close()
    days = sorted(path.name[:10] for path in tmp_path.glob("*.jsonl"))
    assert days == ["2026-11-28", "2026-11-29", "2026-11-30"]
    assert other.exists()
    found = verify(tmp_path)
    assert found.sound, found.problems
    assert len(found.begins) == 1, "said, and no problem"


def test_two_doors_and_a_process_number_that_comes_again(tmp_path: Path) -> None:
    first, second = Audit(tmp_path), Audit(tmp_path)
    for audit in (first, second, first):
        audit.write({"n": 1})
    first.close()
    second.close()
    found = verify(tmp_path)
    assert found.sound
    assert (len(found.ends), found.lines) == (2, 5)


@pytest.fixture
def audited(tmp_path: Path) -> list[Path]:
    return _written(tmp_path / "a", 10)


def _edited(file: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))


CHANGES: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "changed": (
        lambda f: _edited(f[1], lambda li: [li[0], li[1].replace(b"ward", b"xxxx"), *li[2:]]),
        "the line before was changed or taken out",
    ),
    "taken out": (lambda f: _edited(f[1], lambda li: [li[0], *li[2:]]), "changed or taken out"),
    "swapped": (lambda f: _edited(f[1], lambda li: [li[0], li[2], li[1]]), "changed or taken out"),
    "put in": (
        lambda f: _edited(f[1], lambda li: [*li[:2], li[1], *li[2:]]),
        "changed or taken out",
    ),
    "end of a file": (lambda f: _edited(f[1], lambda li: li[:-1]), "its last lines were changed"),
    "first line": (lambda f: _edited(f[1], lambda li: li[1:]), "the first line is missing"),
    "very first line": (
        lambda f: _edited(f[0], lambda li: [li[0].replace(b"0" * 64, b"1" * 64), *li[1:]]),
        "the first line was changed",
    ),
    "a file": (lambda f: f[1].unlink(), "is missing"),
    "a file twice": (
        lambda f: f[1].with_name("2026-01-01-1-1.jsonl").write_bytes(f[1].read_bytes()),
        "twice",
    ),
    "emptied": (lambda f: f[1].write_bytes(b""), "the file is empty"),
    "cut off": (lambda f: f[1].write_bytes(f[1].read_bytes()[:-5]), "cut off"),
    "no JSON": (
        lambda f: _edited(f[1], lambda li: [li[0], b"\xff\n", *li[1:]]),
        "no line of an audit",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_done_to_it_shows(audited: list[Path], name: str, run: Run) -> None:
    change, said = CHANGES[name]
    assert verify(audited[0].parent).sound
    change(audited)
    found = verify(audited[0].parent)
    assert not found.sound
    assert any(said in problem for problem in found.problems), found
    if name == "changed":
        assert found.problems == (f"{audited[1].name}:3: the line before was changed or taken out",)
    code, out, err = run("audit", "verify", audited[0].parent)
    assert (code, "sound" in out) == (1, False)
    assert "not as it was written" in err


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_any_changed_byte_shows_but_in_the_very_last_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    files = _written(tmp_path_factory.mktemp("a") / "a", 5)
    kept = verify(files[0].parent).ends
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(bytes(content))
    found = verify(files[0].parent)
    assert not found.sound or found.ends != kept


def test_the_command_and_its_hashes(audited: list[Path], run: Run, tmp_path: Path) -> None:
    code, out, err = run("audit", "verify", audited[0].parent)
    assert (code, err) == (0, "")
    assert f"lines in {len(audited)} files of 1 doors" in out
    last = hashlib.sha256(audited[-1].read_bytes().split(b"\n")[-2]).hexdigest()
    assert f"ends with {last}" in out
    for folder in (tmp_path, tmp_path / "absent"):
        code, _, err = run("audit", "verify", folder)
        assert (code, "→" in err) == (2, True)


def test_a_full_disk_leaves_whole_lines_and_a_chain_that_goes_on(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.write({"n": 1})
    (file,) = tmp_path.iterdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1, 50):
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + room, limits[1]))
        try:
            with pytest.raises(AuditError, match="File too large"):
                audit.write({"n": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        audit.write({"n": room})
    audit.close()
    found = verify(tmp_path)
    assert found.sound, found.problems
    assert found.lines == 5


def test_a_file_that_was_deleted_is_followed_by_another(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.write({"n": 1})
    (gone,) = tmp_path.iterdir()
    gone.unlink()
    audit.write({"n": 2})
    audit.close()
    (file,) = tmp_path.iterdir()
    assert b'"n": 2' in file.read_bytes()
    assert verify(tmp_path).begins, "that the first file is gone is said"


def test_a_folder_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="nothing can be recorded"):
        Audit(tmp_path / "file" / "audit")


@given(st.text(st.characters()), st.floats(allow_nan=False), st.none() | st.integers())
@settings(max_examples=50)
def test_any_text_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str, number: float, other: int | None
) -> None:
    folder = tmp_path_factory.mktemp("a")
    audit = Audit(folder)
    audit.write({"text": text, "number": number, "other": other})
    audit.close()
    (file,) = folder.iterdir()
    assert file.read_bytes().count(b"\n") == 2
    assert verify(folder).sound
