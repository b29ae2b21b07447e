"""Run directories that want to run code, read or write elsewhere: targets x places x containers."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

EVIL = "evil_module_of_the_campaign"
HERE = "@@here@@"


class Marks:
    """Files outside of every run: what an attack would read, load, write or delete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.mark = folder / "written"
        self.secret = folder / "secret.txt"
        self.secret.write_text("a secret: [1, 2")
        self.pickle = folder / "weights.pth"
        self.pickle.write_bytes(pickle.dumps(_Touch(str(self.mark))))
        code = f"open({str(self.mark)!r}, 'w').close()\nclass Run:\n    pass\n"
        self.module = folder / f"{EVIL}.py"
        self.module.write_text(code)
        (folder / "hubconf.py").write_text(code)
        self.photograph = folder / "photograph.png"
        Image.new("RGB", (64, 64)).save(self.photograph)
        self.before = self._state()

    def _state(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file()}

    def changed(self) -> bool:
        return self._state() != self.before


class _Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def targets(marks: Marks) -> dict[str, dict[str, Any]]:
    """What each is called with if it is called."""
    mark, secret, weights = str(marks.mark), str(marks.secret), str(marks.pickle)
    url = "http://127.0.0.1:9/x"
    return {
        "os.system": {"command": f"touch {mark}"},
        "os.popen": {"cmd": f"touch {mark}"},
        "os.remove": {"path": secret},
        "os.mkdir": {"path": mark},
        "os.rename": {"src": secret, "dst": mark},
        "os.execv": {"path": "/bin/true", "argv": ["true"]},
        "subprocess.Popen": {"args": ["touch", mark]},
        "subprocess.run": {"args": ["touch", mark]},
        "subprocess.check_output": {"args": ["touch", mark]},
        "builtins.eval": {"_args_": [f"open({mark!r}, 'w')"]},
        "builtins.exec": {"_args_": [f"open({mark!r}, 'w')"]},
        "builtins.open": {"file": mark, "mode": "w"},
        "builtins.__import__": {"name": EVIL},
        "importlib.import_module": {"name": EVIL},
        "runpy.run_path": {"path_name": str(marks.module)},
        "runpy.run_module": {"mod_name": EVIL},
        f"{EVIL}.Run": {},
        "shutil.copyfile": {"src": secret, "dst": mark},
        "shutil.move": {"src": secret, "dst": mark},
        "shutil.rmtree": {"path": str(marks.folder)},
        "pathlib.Path.touch": {"self": mark},
        "pickle.loads": {"_args_": [weights]},
        "pandas.read_pickle": {"filepath_or_buffer": weights},
        "pandas.read_csv": {"filepath_or_buffer": secret},
        "numpy.load": {"file": weights, "allow_pickle": True},
        "numpy.fromfile": {"file": secret},
        "yaml.unsafe_load": {"stream": f"!!python/object/apply:os.system ['touch {mark}']"},
        "torch.load": {"f": weights, "weights_only": False},
        "torch.save": {"obj": 1, "f": mark},
        "torch.hub.load": {"repo_or_dir": str(marks.folder), "model": "x", "source": "local"},
        "torch.hub.load_state_dict_from_url": {"url": url},
        "torch.hub.download_url_to_file": {"url": url, "dst": mark},
        "torch.jit.load": {"f": weights},
        "torch.package.PackageImporter": {"file_or_buffer": weights},
        "torch.classes.load_library": {"path": weights},
        "torch.ops.load_library": {"path": weights},
        "torch.nn.Module": {},
        "torch.optim.SGD": {"params": []},
        "torchvision.io.read_file": {"path": secret},
        "torchvision.io.write_file": {"filename": mark},
        "torchvision.datasets.ImageFolder": {"root": str(marks.folder)},
        "torchvision.models.get_model": {"name": "resnet18", "weights": "DEFAULT"},
        "timm.create_model": {"model_name": "hf-hub:a/b", "pretrained": True},
        "timm.models.load_checkpoint": {"model": None, "checkpoint_path": weights},
        "urllib.request.urlopen": {"url": url},
        "socket.create_connection": {"address": ["127.0.0.1", 9]},
        "ctypes.CDLL": {"name": weights},
        "logging.FileHandler": {"filename": mark},
        "sys.exit": {},
        "hydra.utils.instantiate": {"config": {"_target_": "os.abort"}},
        "hydra.utils.get_method": {"path": "os.system"},
        "detzoo.files.write_text": {"path": mark, "text": "x"},
        "detzoo.files.read_text": {"path": secret},
        "detzoo.files.os.system": {"command": f"touch {mark}"},
        "detzoo.engine.checkpoint.save": {"run_dir": str(marks.folder), "state": {}},
        "detzoo.engine.checkpoint.load": {"run_dir": str(marks.folder)},
        "detzoo.load": {"run_directory": str(marks.folder)},
        "detzoo.cli.main": {"arguments": ["check"]},
        "detzoo.config.load_yaml": {"path": secret},
        "detzoo.data.Coco": {"root": str(marks.folder)},
        "detzoo.api.RegionProposals": {"run": str(marks.folder)},
        "detzoo.nn.VGG16": {"weights": weights},
        "detzoo.nn.Backbone": {"name": "resnet10t", "pretrained": True, "weights": weights},
    }  # fmt: skip


CONTAINERS = {  # how the node stands in its place, as YAML
    "dict": "{node}",
    "list": "[{node}]",
    "nested": "[[{{a: [{node}]}}]]",
    "omap": "!!omap [a: {node}]",
    "pairs": "!!pairs [a: {node}]",
    "tuple": "!!python/tuple [{node}]",
    "set": "!!set {{? {node}}}",
    "merge": "{{<<: {node}}}",
    "mine": "!mine {node}",
}
PLACES = (
    ("detector",),
    ("detector", "backbone"),
    ("detector", "backbone", "options"),
    ("detector", "backbone", "options", "norm_layer"),
    ("detector", "proposer"),
    ("detector", "num_classes"),
    ("detector", "extra"),
    ("resize",),
    ("resize", "size"),
    ("data",),
    ("data", "root"),
    ("data", "splits"),
    ("recipe",),
    ("recipe", "lr"),
    ("augment",),
    ("augment", "steps"),
    ("classes",),
    ("runtime",),
    ("runtime", "device"),
    ("label",),
    ("extra",),
)


def configs(base: dict[str, Any], marks: Marks, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(name, text of config.yaml): `count` different ones, every target among them if it fits."""
    rng = random.Random(seed)
    wanted = targets(marks)
    for number, (target, arguments) in enumerate(itertools.islice(_cycled(wanted, rng), count)):
        place = PLACES[number % len(PLACES)] if number < len(PLACES) else rng.choice(PLACES)
        container = rng.choice(list(CONTAINERS))
        node = json.dumps({"_target_": target, **arguments})
        content = copy.deepcopy(base)
        inner = content
        for key in place[:-1]:
            inner = inner.setdefault(key, {})
        inner[place[-1]] = HERE
        text = yaml.safe_dump(content, sort_keys=False)
        shown = CONTAINERS[container].format(node=node)
        yield f"{target} as {container} in {'.'.join(place)}", text.replace(f"'{HERE}'", shown)


def _cycled(
    wanted: dict[str, dict[str, Any]], rng: random.Random
) -> Iterator[tuple[str, dict[str, Any]]]:
    while True:
        order = list(wanted.items())
        rng.shuffle(order)
        yield from order


def photographs(dataset: dict[str, Any], marks: Marks) -> dict[str, dict[str, Any]]:
    """dataset.json of a run that wants photographs of others on its reader's page."""

    def naming(root: str, name: str, **more: Any) -> dict[str, Any]:
        images = [image | {"file_name": name} for image in dataset["images"]]
        return dataset | {"root": root, "images": images} | more

    folder, name = str(marks.folder), marks.photograph.name
    return {
        "a folder": naming(folder, name),
        "an absolute name": naming("/", str(marks.photograph)),
        "a way up": naming(".", f"../../../../../..{marks.photograph}"),
        "as what the run keeps": naming(folder, name, run=folder, data_root=folder),
    }


def reaches(base: dict[str, Any], marks: Marks) -> dict[str, dict[str, Any]]:
    """Settings of a run that name allowed classes, and files or addresses of others."""
    weights, out = str(marks.pickle), str(marks.folder)

    def changed(*path: str, **values: Any) -> dict[str, Any]:
        content = copy.deepcopy(base)
        inner = content
        for key in path:
            inner = inner.setdefault(key, {})
        inner.update(values)
        return content

    fast = changed("detector", _target_="detzoo.detectors.FastRCNN")
    for key in set(fast["detector"]) - {"_target_", "backbone", "num_classes"}:
        del fast["detector"][key]
    fast["detector"]["proposer"] = {"_target_": "detzoo.api.RegionProposals", "run": out}
    options = ("detector", "backbone", "options")
    return {
        "downloaded": changed("detector", "backbone", pretrained=True),
        "weights": changed("detector", "backbone", weights=weights),
        "hub": changed("detector", "backbone", name="hf-hub:someone/resnet"),
        "folder": changed("detector", "backbone", name=f"local-dir:{out}"),
        "checkpoint_path": changed(*options, checkpoint_path=weights),
        "pretrained_cfg": changed(*options, pretrained_cfg={"file": weights}),
        "overlay": changed(*options, pretrained_cfg_overlay={"file": weights}),
        "pretrained option": changed(*options, pretrained=True),
        "cache_dir": changed(*options, cache_dir=out),
        "other proposer": fast,
        "splits": changed("data", "splits", test=str(marks.secret)),
        "splits up": changed("data", "splits", test=f"../../../../../..{marks.secret}"),
        "environment": changed(label="${oc.env:HOME}"),
        "environment in data": changed("data", root="${oc.env:HOME}"),
    }
