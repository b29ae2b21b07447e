"""detzoo check: is this data set sane?"""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.config import build, plain
from detzoo.files import write_json


@app("check")
def main(config: DictConfig) -> int:
    from detzoo.data import check

    wanted = plain(config)
    result = check(build(wanted["data"], "data"), tuple(wanted["splits"]))
    print(result.table())
    if wanted["json"]:
        write_json(wanted["json"], result.json())
    return 1 if result.errors else 0
