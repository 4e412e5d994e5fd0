"""Requests per minute of one who asks: a bucket of tokens that fills again."""

from dataclasses import dataclass

MOST_BUCKETS = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class Rates:
    """A bucket per caller. It holds a minute's requests, and fills evenly.

    Memory is bounded: a bucket that is full again is forgotten, for it is as a new one is; if there
    are still too many, those least recently asked for go.
    """

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, key: tuple[str, str], per_minute: int, now_s: float) -> float:
        """Count one request: 0 if it may go on, else the seconds until one may.

        now_s: of a monotonic clock. What is refused is not counted.
        """
        bucket = self._buckets.pop(key, None) or _Bucket(per_minute, now_s)
        self._buckets[key] = bucket  # now the most recent one
        filled = bucket.left + (now_s - bucket.at_s) * per_minute / 60
        bucket.left, bucket.at_s = min(filled, per_minute), now_s
        if len(self._buckets) > self._most:
            self._forget(now_s)
        if bucket.left < 1:
            return (1 - bucket.left) * 60 / per_minute
        bucket.left -= 1
        return 0.0

    def _forget(self, now_s: float) -> None:
        # After a minute without a request every bucket is full.
        kept = {key: one for key, one in self._buckets.items() if now_s - one.at_s < 60}
        self._buckets = dict(list(kept.items())[-(self._most * 9 // 10) :])
