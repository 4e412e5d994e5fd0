"""One night's scoring as a process of its own, to be killed: night.py RUN_FOLDER."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import ray.cloudpickle
import tiny

from medray.score.batch import score
from medray.spec.models import ScoreSpec


def main(folder: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(tiny)  # workers cannot import the tests
    section = ScoreSpec(archive=(str(folder / "archive"),), batch_size=16, files_per_task=16)
    spec = tiny.SPEC.model_copy(update={"output": str(folder / "run"), "score": section})
    summary = score(spec, task=tiny.TINY)
    sys.stdout.write(summary.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
