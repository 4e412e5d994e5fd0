"""Answers of a version on trial become rows; what is too much is left out, and counted."""

import asyncio
from pathlib import Path
from typing import Any

from medray import storage
from medray.serve.metrics import Metrics
from medray.serve.routes import Route
from medray.serve.shadow import Shadows

ROUTE = Route(name="a", version="2", app="a--2", uri="/a", digest="0" * 64, reads="images")
ANSWER = {
    "package": "a@2#0",
    "predictions": [
        {
            "item_id": "i",
            "status": "ok",
            "reason": None,
            "scores": [
                {
                    "target": "t",
                    "score": 0.5,
                    "decision": True,
                    "text_value": None,
                    "threshold": 0.4,
                }
            ],
        },
        {"item_id": "j", "status": "rejected", "reason": "not_dicom", "scores": []},
    ],
}


def _asked(folder: Path, answers: list[Any]) -> tuple[list[dict[str, Any]], str]:
    metrics = Metrics()

    async def ask() -> None:
        shadows = Shadows(str(folder / "shadow"))
        shadows.metrics = metrics
        for number, answer in enumerate(answers):

            async def answered(answer: Any = answer) -> dict[str, Any]:
                await asyncio.sleep(0.01)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            shadows.ask(ROUTE, f"r{number}", answered)
        await asyncio.sleep(0.1)
        await shadows.flush()
        await shadows.flush()  # nothing twice

    asyncio.run(ask())
    place = str(folder / "shadow")
    rows = storage.read_table(place).to_pylist() if storage.table_exists(place) else []
    return rows, metrics.text().decode()


def test_answers_are_rows(tmp_path: Path):
    rows, _ = _asked(tmp_path, [ANSWER])
    kept = ("request_id", "package", "item_id", "target", "score", "status", "reason")
    assert [tuple(row[name] for name in kept) for row in rows] == [
        ("r0", "a@2#0", "i", "t", 0.5, "ok", None),
        ("r0", "a@2#0", "j", None, None, "rejected", "not_dicom"),
    ]


def test_what_fails_or_is_too_much_is_counted(tmp_path: Path):
    rows, text = _asked(tmp_path, [ValueError("Ms X"), *[ANSWER] * 20])
    counts = {
        outcome: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        for outcome in ("answered", "failed", "left out")
        if line.startswith("medray_shadows_total") and f'outcome="{outcome}"' in line
    }
    assert counts["failed"] == 1
    assert counts["answered"] + counts["left out"] == 20
    assert counts["left out"] > 0
    assert len(rows) == 2 * counts["answered"]
