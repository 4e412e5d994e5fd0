"""One night on records as a process of its own, to be killed: night_records.py SPEC."""

import sys

from medray import api


def main(spec: str) -> None:
    sys.stdout.write(api.score(spec).model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1])
