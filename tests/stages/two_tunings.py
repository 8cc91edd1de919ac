"""What torchrun starts in the tests of tuning by several processes: the walk of each recipe, in both ways of sharing.

Arguments: the folder that gets the runs, and the recipes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lep.pipeline import load_recipe, run


def main(out: Path, recipes: list[Path]) -> None:
    for recipe in recipes:
        for parallel in ("ddp", "fsdp2"):
            steps = load_recipe(recipe, [f"out={out / recipe.stem / parallel}", f"tune.parallel={parallel}"])
            run(steps, replace=False, started=lambda _: None, ended=lambda *_: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
